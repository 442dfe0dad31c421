import { Link, useNavigate } from '@tanstack/react-router';
import { IconAlertTriangle } from '@tabler/icons-react';
import type { JobSummary } from '@/api/types';
import { StateBadge } from '@/components/state-badge';
import { runColor } from '@/lib/colors';
import { ago, count, duration, points } from '@/lib/format';
import { primaryMetric, sharedLabel } from '@/lib/metric';
import { silence, STALE_MS } from '@/lib/time';
import { useNow } from '@/lib/use-now';

interface Props {
  rows: JobSummary[];
  at: number;
  selected: string[];
  onToggle: (name: string) => void;
  heard: ReadonlyMap<string, number>;
}

export function RunsTable({ rows, at, selected, onToggle, heard }: Props) {
  const now = useNow();
  const navigate = useNavigate();
  const open = (name: string) => void navigate({ to: '/runs/$job', params: { job: name } });
  return (
    <div className="scroll">
      <table className="grid runs">
        <thead>
          <tr>
            <th style={{ width: 28 }} className="only-wide" />
            <th>Run</th>
            <th className="only-wide">State</th>
            <th className="only-wide" style={{ width: 216 }}>Progress</th>
            <th className="num">{sharedLabel(rows.map((job) => job.task))}</th>
            <th className="num only-wide">Best</th>
            <th className="num only-wide">Teacher</th>
            <th className="only-wide" style={{ minWidth: 112 }}>Pair</th>
            <th className="only-wide">Data</th>
            <th className="num only-wide">Seed</th>
            <th className="num only-wide">Created</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((job, index) => (
            <tr
              key={job.id}
              data-row={index}
              className={`pick ${index === at ? 'at' : ''}`}
              aria-selected={selected.includes(job.name)}
              onClick={() => open(job.name)}
            >
              <td className="only-wide" onClick={(event) => event.stopPropagation()}>
                <input
                  type="checkbox"
                  aria-label={`Select ${job.name}`}
                  checked={selected.includes(job.name)}
                  onChange={() => onToggle(job.name)}
                />
              </td>
              <td className="name">
                <span className="row" style={{ flexWrap: 'nowrap' }}>
                  <span className="swatch" style={{ background: job.kind === 'inspect' ? 'transparent' : runColor(job.methods) }} />
                  <Link to="/runs/$job" params={{ job: job.name }} title={job.name} aria-label={job.name} onClick={(event) => event.stopPropagation()}>
                    <Name of={job.name} />
                  </Link>
                  <span className="muted method">{methodWord(job)}</span>
                  {job.alarms > 0 && (
                    <span className="state warn" title={`${job.alarms} alarms`}>
                      <IconAlertTriangle size={13} aria-hidden /> {job.alarms}
                    </span>
                  )}
                </span>
                <span className="only-narrow second">
                  <StateBadge state={job.state} stale={isSilent(job, now, heard.get(job.id)) !== null} />
                  <Progress job={job} now={now} heardAt={heard.get(job.id)} />
                </span>
              </td>
              <td className="only-wide">
                <StateBadge state={job.state} reason={job.reason} stale={isSilent(job, now, heard.get(job.id)) !== null} />
              </td>
              <td className="only-wide">
                <Progress job={job} now={now} heardAt={heard.get(job.id)} />
              </td>
              <td className="num">{score(job, 'val')}</td>
              <td className="num only-wide">{score(job, 'best')}</td>
              <td className="num only-wide muted">{score(job, 'teacher')}</td>
              <td className="only-wide pair" title={pair(job)}>{pair(job)}</td>
              <td className="only-wide muted">{job.dataset ?? '–'}</td>
              <td className="num only-wide muted">{job.seed ?? '–'}</td>
              <td className="num only-wide muted" title={job.created_at}>
                {ago((now - Date.parse(job.created_at)) / 1000)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const score = (job: JobSummary, of: 'val' | 'best' | 'teacher'): string =>
  points(job.metrics[`${of}/${primaryMetric(job.task).key}`]);

const methodWord = (job: JobSummary): string =>
  job.kind === 'inspect' ? 'inspection' : job.methods.join(' + ') || 'student alone';

const pair = (job: JobSummary): string =>
  [job.student, job.teacher && `<- ${job.teacher}`].filter(Boolean).join(' ') || '–';

/** A long name is cut in its middle: runs of one study differ at the end. */
function Name({ of }: { of: string }) {
  const tail = of.length > 24 ? 12 : 0;
  return (
    <b className="run-name">
      <span>{of.slice(0, of.length - tail)}</span>
      {tail > 0 && <span>{of.slice(-tail)}</span>}
    </b>
  );
}

/** Milliseconds of silence of a running job when they are worth a word. */
function isSilent(job: JobSummary, now: number, heardAt: number | undefined): number | null {
  if (job.state !== 'running') return null;
  const quiet = silence(now, heardAt, job.progress.reported_at, job.started_at);
  return quiet !== null && quiet > STALE_MS ? quiet : null;
}

function Progress({ job, now, heardAt }: { job: JobSummary; now: number; heardAt: number | undefined }) {
  const { iteration, iterations, eta_seconds: eta, stage } = job.progress;
  if (!iterations) return <span className="muted">{job.state === 'running' ? stage || 'starting' : '–'}</span>;
  const quiet = isSilent(job, now, heardAt);
  const share = Math.min(100, (100 * iteration) / iterations);
  return (
    <span className="row tabular" style={{ flexWrap: 'nowrap' }}>
      <span
        className={`bar ${job.state === 'running' && quiet === null ? '' : 'idle'}`}
        role="progressbar"
        aria-valuenow={Math.round(share)}
        aria-label={`Progress of ${job.name}`}
      >
        <i style={{ width: `${share}%` }} />
      </span>
      <span>
        {count(iteration)}
        <span className="muted"> / {count(iterations)}</span>
      </span>
      {job.state === 'running' && quiet === null && stage === 'train' && eta != null && (
        <span className="muted">{duration(eta)} left</span>
      )}
      {job.state === 'running' && quiet === null && stage !== 'train' && <span className="muted">{stage}</span>}
      {quiet !== null && <span className="warn">last heard {ago(quiet / 1000)}</span>}
    </span>
  );
}
