import { Link } from '@tanstack/react-router';
import type { FeedState } from '@/api/use-feed';
import type { JobDetail } from '@/api/types';
import { FeedNote } from '@/components/feed-note';
import { StateBadge } from '@/components/state-badge';
import { runColor } from '@/lib/colors';
import { ago, count, duration, fixed } from '@/lib/format';
import { silence, STALE_MS } from '@/lib/time';
import { useNow } from '@/lib/use-now';
import { RunActions } from './actions';

export function RunHeader({ job, feed }: { job: JobDetail; feed: FeedState }) {
  const now = useNow();
  const running = job.state === 'running';
  const quiet = running ? silence(now, feed.heard.get(job.id), job.progress.reported_at, job.started_at) : null;
  const stale = quiet !== null && quiet > STALE_MS;
  return (
    <header className="run-header">
      <div className="row">
        <span className="swatch" style={{ background: runColor(job.methods) }} />
        <h1>{job.name}</h1>
        <StateBadge state={job.state} reason={job.reason} stale={stale} />
        {stale && <span className="warn tabular">last heard {ago(quiet / 1000)}</span>}
        <FeedNote status={feed.status} />
        <span className="grow" />
        <RunActions job={job} />
      </div>
      <div className="row muted facts tabular">
        <span>{subtitle(job)}</span>
        {job.retry_of && (
          <span>
            retry of{' '}
            <Link className="link" to="/runs/$job" params={{ job: job.retry_of }}>
              {job.retry_of.slice(0, 8)}
            </Link>
          </span>
        )}
        <span className="grow" />
        <Position job={job} stale={stale} now={now} />
      </div>
      {running && job.progress.iterations > 0 && (
        <div className={`bar wide-bar ${stale ? 'idle' : ''}`} aria-hidden>
          <i style={{ width: `${(100 * job.progress.iteration) / job.progress.iterations}%` }} />
        </div>
      )}
    </header>
  );
}

function subtitle(job: JobDetail): string {
  if (job.kind === 'inspect') return `inspection · ${job.dataset ?? ''}`;
  const pair = [job.student, job.teacher && `<- ${job.teacher}`].filter(Boolean).join(' ');
  const method = job.methods.join(' + ') || 'student alone';
  return [method, pair, job.dataset, job.seed == null ? null : `seed ${job.seed}`].filter(Boolean).join(' · ');
}

function Position({ job, stale, now }: { job: JobDetail; stale: boolean; now: number }) {
  const { iteration, iterations, eta_seconds: eta, iterations_per_second: rate, stage } = job.progress;
  if (job.ended_at) {
    const took = job.started_at ? (Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000 : null;
    return (
      <span>
        {iterations ? `it ${count(iteration)} / ${count(iterations)} · ` : ''}
        {took === null ? '' : `took ${duration(took)} · `}ended {ago((now - Date.parse(job.ended_at)) / 1000)}
      </span>
    );
  }
  if (!iterations) return <span>{job.state === 'running' ? stage || 'starting' : ''}</span>;
  return (
    <span>
      it <b className="inked">{count(iteration)}</b> / {count(iterations)}
      {job.state === 'running' && !stale && (
        <>
          {stage && stage !== 'train' && ` · ${stage}`}
          {(!stage || stage === 'train') && rate != null && rate > 0 && ` · ${fixed(rate, rate < 10 ? 1 : 0)} it/s`}
          {(!stage || stage === 'train') && eta != null && ` · ${duration(eta)} left`}
        </>
      )}
    </span>
  );
}
