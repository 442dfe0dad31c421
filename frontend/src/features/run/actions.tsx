import { Button, Menu } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { IconDots } from '@tabler/icons-react';
import { useState } from 'react';
import { actions } from '@/api/jobs';
import { keys } from '@/api/keys';
import type { JobDetail } from '@/api/types';

/** Runs an action on a job, shows what the server says, and goes to the new job where one was made. */
export function useJobAction() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return useMutation({
    mutationFn: (action: () => Promise<{ name?: string | null }>) => action(),
    onSuccess: (answer) => {
      void queries.invalidateQueries({ queryKey: keys.jobs.all });
      if ('spec' in answer && answer.name) void navigate({ to: '/runs/$job', params: { job: answer.name } });
    },
    onError: (error) => notifications.show({ color: 'red', title: 'Refused', message: error.message }),
  });
}

export function RunActions({ job }: { job: JobDetail }) {
  const action = useJobAction();
  const [sure, setSure] = useState(false);
  const run = (call: () => Promise<{ name?: string | null }>) => action.mutate(call);
  const ended = job.ended_at != null || ['succeeded', 'failed', 'cancelled'].includes(job.state);
  const busy = action.isPending;
  return (
    <div className="row">
      {['running', 'queued'].includes(job.state) && (
        <Button disabled={busy} onClick={() => run(() => actions.pause(job.id))}>
          Pause
        </Button>
      )}
      {job.state === 'paused' && (
        <Button disabled={busy} variant="filled" onClick={() => run(() => actions.resume(job.id))}>
          Resume
        </Button>
      )}
      {!ended &&
        (sure ? (
          <Button
            disabled={busy}
            color="red"
            variant="light"
            onBlur={() => setSure(false)}
            onClick={() => {
              setSure(false);
              run(() => actions.cancel(job.id));
            }}
          >
            Cancel for good
          </Button>
        ) : (
          <Button disabled={busy} onClick={() => setSure(true)}>
            Cancel
          </Button>
        ))}
      {ended && job.kind === 'distill' && (
        <Button renderRoot={(props) => <Link {...props} to="/new" search={{ from: job.name }} />}>Rerun</Button>
      )}
      <Button renderRoot={(props) => <Link {...props} to="/compare" search={{ jobs: job.name }} />}>Compare</Button>
      <Menu>
        <Menu.Target>
          <Button data-actions aria-label="Actions" px={6}>
            <IconDots size={16} />
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item onClick={() => run(() => actions.clone(job.id))}>Run again with the same spec</Menu.Item>
          {ended && <Menu.Item onClick={() => run(() => actions.retry(job.id))}>Retry from the start</Menu.Item>}
          {ended && (
            <Menu.Item onClick={() => run(() => actions.retry(job.id, {}, true))}>
              Retry from the last checkpoint
            </Menu.Item>
          )}
          <Menu.Item
            onClick={() => run(() => actions.clone(job.id, { seed: (job.seed ?? 0) + 1 }))}
            disabled={job.kind !== 'distill'}
          >
            Rerun with seed {(job.seed ?? 0) + 1}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item onClick={() => void navigator.clipboard.writeText(`acamkd show ${job.name} --resolved`)}>
            Copy: acamkd show {job.name} --resolved
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}
