/** What a job that is not simply running has to say: why it waits, or why it failed and what repairs it. */
import { Button } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { IconAlertTriangle, IconClock, IconPlayerPause } from '@tabler/icons-react';
import { actions, artifactsQuery, attemptsQuery } from '@/api/jobs';
import type { FixPayload, JobDetail } from '@/api/types';
import { count, value as show } from '@/lib/format';
import { useJobAction } from './actions';
import { useRun } from './run-context';

export function Lifecycle() {
  const { job } = useRun();
  if (job.state === 'failed') return <Failed job={job} />;
  if (job.state === 'paused') return <Paused job={job} />;
  if (job.queue) return <Waits job={job} />;
  if (job.kind === 'inspect') {
    return (
      <p className="muted">
        The report is on the{' '}
        <Link to="/datasets" className="link">
          Datasets page
        </Link>
        .
      </p>
    );
  }
  return null;
}

function Waits({ job }: { job: JobDetail }) {
  const queue = job.queue!;
  return (
    <div className="strip calm">
      <IconClock size={16} aria-hidden />
      <div className="grow">
        <b>{queue.position ? `${ordinal(queue.position)} in the queue` : job.state === 'waiting' ? 'Waiting' : 'Queued'}</b>
        {': '}
        {queue.why}. <span className="muted">What would start it: {queue.would_start}.</span>
        {job.waits_for && (
          <>
            {' '}
            <Link className="link" to="/runs/$job" params={{ job: job.waits_for }}>
              See that job
            </Link>
          </>
        )}
      </div>
    </div>
  );
}

function Paused({ job }: { job: JobDetail }) {
  const action = useJobAction();
  return (
    <div className="strip">
      <IconPlayerPause size={16} className="warn" aria-hidden />
      <div className="grow">
        <b>Paused</b> at iteration {count(job.progress.iteration)} of {count(job.progress.iterations)}.{' '}
        <span className="muted">It goes on from its last checkpoint.</span>
      </div>
      <Button onClick={() => action.mutate(() => actions.resume(job.id))}>Resume</Button>
    </div>
  );
}

function Failed({ job }: { job: JobDetail }) {
  const { ref } = useRun();
  const action = useJobAction();
  const attempts = useQuery(attemptsQuery(ref)).data ?? [];
  const checkpoints = (useQuery(artifactsQuery(ref)).data ?? []).filter((item) => item.kind === 'checkpoint');
  const good = Math.max(-1, ...attempts.map((item) => item.last_checkpoint ?? -1), ...checkpoints.map((item) => item.iteration ?? -1));
  const fixes = (job.fixes ?? []) as unknown as FixPayload[];
  const error = job.error;
  return (
    <section className="failed">
      <div className="strip error" role="alert">
        <IconAlertTriangle size={16} className="bad" aria-hidden />
        <div className="grow">
          <b>{error?.message ?? 'The run failed.'}</b>
          {error?.field && (
            <div>
              <code className="mono">
                {error.field}: {show(error.value)}
              </code>
            </div>
          )}
          {error?.hint && <div className="muted">{error.hint}</div>}
          <div className="muted tabular">
            {good >= 0 ? `Last good checkpoint at iteration ${count(good)}.` : 'No checkpoint was written.'}
          </div>
        </div>
        <div className="row">
          {fixes.map((fix) => (
            <Button key={fix.label} variant="filled" onClick={() => action.mutate(() => actions.retry(job.id, fix.set))}>
              {fix.label}
            </Button>
          ))}
          {!fixes.length && (
            <Button variant="filled" onClick={() => action.mutate(() => actions.retry(job.id, {}, good >= 0))}>
              {good >= 0 ? `Retry from ${count(good)}` : 'Retry'}
            </Button>
          )}
        </div>
      </div>
      {(job.last_log?.length ?? 0) > 0 && <pre className="log short mono">{job.last_log!.join('\n')}</pre>}
    </section>
  );
}

const ordinal = (place: number): string =>
  `${place}${['th', 'st', 'nd', 'rd'][place % 100 > 10 && place % 100 < 14 ? 0 : place % 10] ?? 'th'}`;
