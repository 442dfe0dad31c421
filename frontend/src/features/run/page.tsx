import { useQuery } from '@tanstack/react-query';
import { useNavigate, useParams, useSearch } from '@tanstack/react-router';
import { useEffect, useMemo, useState } from 'react';
import { jobQuery, panelIndexQuery } from '@/api/jobs';
import type { PanelIndex } from '@/api/types';
import { useFeed } from '@/api/use-feed';
import { Problem } from '@/components/problem';
import { nearest } from '@/lib/series';
import { SharedCursor, SharedViewContext, type SharedView } from '@/lib/shared-view';
import { formatZoom, parseZoom } from '@/lib/url';
import { Alarms } from './alarms';
import { RunHeader } from './header';
import { studentEvaluations } from './model';
import { RunContext, type RunView } from './run-context';
import { RunTabs } from './tabs';
import { useRunKeys } from './use-run-keys';
import { usePlayback } from './use-playback';

const NO_PANELS: PanelIndex = { iterations: [], images: [], once: [] };

export function RunPage() {
  const { job: name } = useParams({ from: '/runs/$job' });
  const job = useQuery(jobQuery(name));
  const panels = useQuery({ ...panelIndexQuery(name), enabled: job.data?.kind === 'distill' }).data ?? NO_PANELS;
  const search = useSearch({ from: '/runs/$job' });
  const navigate = useNavigate({ from: '/runs/$job' });
  const feed = useFeed(job.data ? `jobs=${encodeURIComponent(job.data.id)}` : null);
  const [cursor] = useState(() => new SharedCursor());
  useEffect(() => {
    document.title = `${name} · ACAM-KD`;
    return () => {
      document.title = 'ACAM-KD';
    };
  }, [name]);

  // A function sees the address as it is then, not as it was drawn: two keys may come faster than one drawing.
  const set: RunView['set'] = (change) =>
    void navigate({
      search: (before) => ({ ...before, ...(typeof change === 'function' ? change(before) : change) }),
      replace: true,
      resetScroll: false,
    });
  const evaluations = useMemo(() => (job.data ? studentEvaluations(job.data) : []), [job.data]);
  // Pictures and tables go over the same evaluations; a run without pictures still has scores.
  const iterations = useMemo(
    () => (panels.iterations.length ? panels.iterations : evaluations.map((item) => item.iteration)),
    [panels, evaluations],
  );
  const playback = usePlayback(iterations, search.it, set);

  const shared: SharedView = {
    cursor,
    zoom: parseZoom(search.z),
    setZoom: (range) => set({ z: formatZoom(range) }),
    chosen: search.it ?? null,
    choose: (x) => {
      const at = nearest(iterations, x);
      if (at >= 0) playback.choose(iterations[at]!);
    },
  };
  useRunKeys(name, playback, set);

  if (job.error && !job.data) return <Problem error={job.error} onRetry={() => void job.refetch()} />;
  if (!job.data) return <Loading name={name} />;
  const view: RunView = { job: job.data, ref: name, search, set, evaluations, panels, iterations, playback };
  return (
    <SharedViewContext value={shared}>
      <RunContext value={view}>
        <RunHeader job={job.data} feed={feed} />
        <Alarms job={job.data} />
        <RunTabs />
      </RunContext>
    </SharedViewContext>
  );
}

/** Skeletons of the final size, so that nothing moves when the numbers arrive. */
function Loading({ name }: { name: string }) {
  return (
    <div aria-busy="true" aria-label="Loading">
      <div className="head">
        <h1>{name}</h1>
      </div>
      <div className="skeleton" style={{ height: 72, marginBottom: 16 }} />
      <div className="overview">
        <div className="skeleton" style={{ height: 420 }} />
        <div className="skeleton" style={{ height: 420 }} />
      </div>
    </div>
  );
}
