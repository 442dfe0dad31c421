import { SegmentedControl } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { IconAlertTriangle, IconPin, IconX } from '@tabler/icons-react';
import { useState } from 'react';
import { compareQuery } from '@/api/jobs';
import { useFeed } from '@/api/use-feed';
import { FeedNote } from '@/components/feed-note';
import { Problem } from '@/components/problem';
import { StateBadge } from '@/components/state-badge';
import { runColor } from '@/lib/colors';
import { SharedCursor, SharedViewContext, type SharedView } from '@/lib/shared-view';
import { formatZoom, names, parseZoom, type CompareSearch, type XAxis } from '@/lib/url';
import { AddRun, NothingPicked } from './add-run';
import { CompareChart } from './chart';
import { CompareImages } from './images';
import { Differing, PerClass, Results } from './tables';

const AXES = [
  { value: 'iteration', label: 'Iteration' },
  { value: 'images', label: 'Images seen' },
  { value: 'device_seconds', label: 'Device seconds' },
];

export function ComparePage() {
  const search = useSearch({ from: '/compare' });
  const navigate = useNavigate({ from: '/compare' });
  const picked = names(search.jobs);
  const x: XAxis = search.x ?? 'iteration';
  const compared = useQuery(compareQuery(picked, x));
  const feed = useFeed(picked.length ? `jobs=${encodeURIComponent(picked.join(','))}` : null);
  const [cursor] = useState(() => new SharedCursor());
  const set = (change: Partial<CompareSearch>) =>
    void navigate({ search: (before) => ({ ...before, ...change }), replace: true, resetScroll: false });
  const setJobs = (jobs: string[]) => set({ jobs: jobs.join(',') || undefined, z: undefined });

  const answer = compared.data;
  const shared: SharedView = {
    cursor,
    zoom: parseZoom(search.z),
    setZoom: (range) => set({ z: formatZoom(range) }),
    chosen: x === 'iteration' ? (search.it ?? null) : null,
    choose: (value) => x === 'iteration' && set({ it: Math.round(value) }),
  };
  return (
    <SharedViewContext value={shared}>
      <div className="head">
        <h1>Compare</h1>
        {picked.map((name, index) => {
          const job = answer?.jobs.find((item) => item.job.name === name || item.job.id === name)?.job;
          return (
            <span key={name} className={`chip ${index === 0 ? 'pinned' : ''}`}>
              <span className="swatch" style={{ background: runColor(job?.methods ?? []) }} />
              <Link to="/runs/$job" params={{ job: name }}>
                {job?.name ?? name}
              </Link>
              {job && job.state !== 'succeeded' && <StateBadge state={job.state} />}
              {index === 0 ? (
                <span className="muted">baseline</span>
              ) : (
                <button
                  type="button"
                  className="plain"
                  aria-label={`Make ${name} the baseline`}
                  title="Make it the baseline"
                  onClick={() => setJobs([name, ...picked.filter((item) => item !== name)])}
                >
                  <IconPin size={12} />
                </button>
              )}
              <button
                type="button"
                className="plain"
                aria-label={`Remove ${name}`}
                onClick={() => setJobs(picked.filter((item) => item !== name))}
              >
                <IconX size={12} />
              </button>
            </span>
          );
        })}
        <AddRun picked={picked} onAdd={(name) => setJobs([...picked, name])} />
        <FeedNote status={picked.length ? feed.status : 'open'} />
      </div>
      {!picked.length && <NothingPicked onPick={setJobs} />}
      {compared.error && <Problem error={compared.error} onRetry={() => void compared.refetch()} />}
      {picked.length > 0 && compared.isPending && !compared.error && <div className="skeleton" style={{ height: 400 }} />}
      {answer && picked.length > 0 && (
        <>
          {answer.not_comparable.length > 0 && (
            <div className="strip" role="status">
              <IconAlertTriangle size={16} className="warn" aria-hidden />
              <div className="grow">
                <b>Not comparable because:</b> {answer.not_comparable.join('; ')}
              </div>
            </div>
          )}
          <Differing answer={answer} />
          <SegmentedControl
            size="xs"
            mt={16}
            data={AXES}
            value={x}
            aria-label="Horizontal axis"
            onChange={(next) => set({ x: next === 'iteration' ? undefined : (next as XAxis), z: undefined })}
          />
          <CompareChart answer={answer} x={x} />
          <Results answer={answer} />
          <CompareImages jobs={answer.jobs.map((item) => item.job)} search={search} set={set} />
          <PerClass answer={answer} />
        </>
      )}
    </SharedViewContext>
  );
}
