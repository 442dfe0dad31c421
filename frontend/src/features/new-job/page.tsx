import { Button, Menu } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { IconChevronDown } from '@tabler/icons-react';
import { useEffect, useMemo, useRef, useState } from 'react';
import { ApiError } from '@/api/client';
import { catalogQuery, jobSchemaQuery } from '@/api/catalog';
import { datasetsQuery } from '@/api/datasets';
import { jobsQuery } from '@/api/jobs';
import { keys } from '@/api/keys';
import { modelsQuery } from '@/api/models';
import { submitJob } from '@/api/submit';
import { Problem } from '@/components/problem';
import { CheckPanel } from './check-panel';
import { EXAMPLES, exampleText } from './examples';
import './form.css';
import type { SpecContext } from './form-context';
import { makePicks } from './picks';
import { Recipes } from './recipes';
import { SpecForm } from './spec-form';
import { draft, useStart } from './start';
import { problemsOf, useDryRun } from './use-dry-run';
import { YamlEditor } from './yaml-editor';
import { applyForm, asForm, parseSpec, type Spec } from './yaml-spec';

export function NewJobPage() {
  const search = useSearch({ from: '/new' });
  const jobs = useQuery(jobsQuery());
  const start = useStart(search, jobs.data?.items ?? (jobs.error ? [] : undefined));
  const schema = useQuery(jobSchemaQuery());
  if (start.error) return <Problem error={start.error} />;
  if (schema.error) return <Problem error={schema.error} onRetry={() => void schema.refetch()} />;
  if (start.text === null || !schema.data) return <Loading />;
  const key = search.from ?? search.recipe ?? search.example ?? search.dataset ?? '';
  return <Editor key={key} start={start.text} from={search.from} schema={schema.data} />;
}

function Editor({ start, from, schema }: { start: string; from?: string; schema: Record<string, unknown> }) {
  const [text, setText] = useState(start);
  const parsed = useMemo(() => parseSpec(text), [text]);
  const good = useRef<Spec>({});
  if (parsed.data) good.current = asForm(parsed.data);
  const data = good.current;
  const check = useDryRun(parsed.error ? '' : text);
  const context = useSpecContext(check);
  const submit = useSubmit(text);
  useEffect(() => {
    if (text !== start) draft.set(text);
  }, [text, start]);

  const ready = parsed.data !== null && check.settled && check.problems.length === 0 && !submit.isPending;
  return (
    <div
      className="new-job"
      onKeyDown={(event) => {
        if ((event.ctrlKey || event.metaKey) && event.key === 'Enter' && ready) submit.mutate();
      }}
    >
      <div className="row head">
        <h1>New run</h1>
        <Examples onPick={setText} />
        <Recipes onPick={setText} />
        {from && (
          <span className="muted">
            from{' '}
            <Link className="link" to="/runs/$job" params={{ job: from }}>{from}</Link>
          </span>
        )}
        <span className="grow" />
        <Button variant="filled" disabled={!ready} loading={submit.isPending} onClick={() => submit.mutate()}>
          Submit
        </Button>
        <span className="kbd only-wide">Ctrl Enter</span>
      </div>
      {submit.error && <Problem error={refusal(submit.error)} />}
      <div className="both">
        <SpecForm
          schema={schema}
          data={data}
          context={context}
          disabled={parsed.error !== null}
          onChange={(next) => setText((now) => applyForm(now, good.current, next))}
        />
        <div className="beside">
          <YamlEditor text={text} error={parsed.error} onChange={setText} />
          <CheckPanel check={check} readable={parsed.data !== null} />
        </div>
      </div>
    </div>
  );
}

function useSpecContext(check: ReturnType<typeof useDryRun>): SpecContext {
  const datasets = useQuery(datasetsQuery());
  const models = useQuery(modelsQuery());
  const jobs = useQuery(jobsQuery());
  const catalog = useQuery(catalogQuery());
  const picks = useMemo(
    () =>
      makePicks({
        datasets: datasets.data?.items ?? [],
        models: models.data?.items ?? [],
        jobs: jobs.data?.items ?? [],
        catalog: catalog.data,
      }),
    [datasets.data, models.data, jobs.data, catalog.data],
  );
  const origins = useMemo(
    () => new Map((check.answer?.origins ?? []).map((origin) => [origin.path, origin])),
    [check.answer],
  );
  return useMemo(() => ({ picks, origins, problems: check.problems }), [picks, origins, check.problems]);
}

function useSubmit(text: string) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  // One key a text: pressing twice, or again after a lost answer, makes one job.
  const key = useMemo(() => ({ text, id: requestId() }), [text]);
  return useMutation({
    mutationFn: () => submitJob(key.text, key.id),
    onSuccess: (answer) => {
      draft.clear();
      void queries.invalidateQueries({ queryKey: keys.jobs.all });
      void navigate({ to: '/runs/$job', params: { job: answer.name ?? answer.id! } });
    },
  });
}

/** `crypto.randomUUID` is missing on plain HTTP under a name other than localhost. */
const requestId = (): string =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

const refusal = (error: Error): Error =>
  error instanceof ApiError && error.problems.length > 1
    ? new Error(problemsOf(error).map(({ field, message }) => `${field ?? ''} ${message}`.trim()).join('; '))
    : error;

function Examples({ onPick }: { onPick: (text: string) => void }) {
  const jobs = useQuery(jobsQuery());
  return (
    <Menu position="bottom-start">
      <Menu.Target>
        <Button rightSection={<IconChevronDown size={13} />}>Examples</Button>
      </Menu.Target>
      <Menu.Dropdown>
        {EXAMPLES.map(({ id, label }) => (
          <Menu.Item key={id} onClick={() => onPick(exampleText(id, jobs.data?.items ?? []))}>{label}</Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

const Loading = () => (
  <div aria-busy="true" aria-label="Loading" className="both">
    <div className="skeleton" style={{ height: 480 }} />
    <div className="skeleton" style={{ height: 480 }} />
  </div>
);
