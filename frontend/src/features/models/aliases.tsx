import { Button, Popover, TextInput } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { IconPlus, IconX } from '@tabler/icons-react';
import { useState } from 'react';
import { keys } from '@/api/keys';
import { aliases } from '@/api/models';
import type { components } from '@/api/schema';
import { aliasProblem } from './group';

type ModelInfo = components['schemas']['ModelInfo'];

/** The names by which specs call this version. An alias that is set here leaves the version that had it. */
export function AliasTags({ model }: { model: ModelInfo }) {
  const queries = useQueryClient();
  const [opened, setOpened] = useState(false);
  const [alias, setAlias] = useState('champion');
  const change = useMutation({
    mutationFn: (call: () => Promise<unknown>) => call(),
    onSuccess: () => {
      setOpened(false);
      void queries.invalidateQueries({ queryKey: keys.models.all });
    },
    onError: (error) => notifications.show({ color: 'red', title: 'Refused', message: error.message }),
  });
  const problem = aliasProblem(alias);
  return (
    <span className="tags">
      {model.aliases.map((name) => (
        <span key={name} className={`tag ${name === 'champion' ? 'accent' : ''}`}>
          {name}
          {name !== 'latest' && (
            <button
              type="button"
              aria-label={`Remove the alias ${name}`}
              onClick={() => change.mutate(() => aliases.remove(model.name, name))}
            >
              <IconX size={12} />
            </button>
          )}
        </span>
      ))}
      <Popover opened={opened} onChange={setOpened} trapFocus withArrow={false}>
        <Popover.Target>
          <button type="button" className="plain" aria-label={`Name version ${model.version} of ${model.name}`} onClick={() => setOpened(!opened)}>
            <IconPlus size={13} />
          </button>
        </Popover.Target>
        <Popover.Dropdown>
          <form
            className="row"
            onSubmit={(event) => {
              event.preventDefault();
              if (alias && !problem) change.mutate(() => aliases.set(model.name, alias, model.version));
            }}
          >
            <TextInput aria-label="Alias" value={alias} error={problem} onChange={(event) => setAlias(event.currentTarget.value)} />
            <Button type="submit" variant="filled" disabled={!alias || problem !== null} loading={change.isPending}>Set</Button>
          </form>
        </Popover.Dropdown>
      </Popover>
    </span>
  );
}
