import { Button } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useMemo, useRef, useState } from 'react';
import { jobsQuery } from '@/api/jobs';
import { useFeed } from '@/api/use-feed';
import { Empty } from '@/components/command';
import { FeedNote } from '@/components/feed-note';
import { Problem } from '@/components/problem';
import { step } from '@/lib/keyboard';
import { names, type RunsSearch } from '@/lib/url';
import { useKeys } from '@/lib/use-keys';
import { inOrder, matches } from './filter';
import { RunsTable } from './table';

export function RunsPage() {
  const search = useSearch({ from: '/runs' });
  const navigate = useNavigate({ from: '/runs' });
  const jobs = useQuery(jobsQuery());
  const feed = useFeed('scope=project');
  const field = useRef<HTMLInputElement>(null);
  const [at, setAt] = useState(-1);

  const rows = useMemo(
    () => inOrder(jobs.data?.items ?? []).filter((job) => matches(job, search.q ?? '')),
    [jobs.data, search.q],
  );
  const selected = names(search.sel);
  const set = (change: Partial<RunsSearch>) =>
    void navigate({ search: (before) => ({ ...before, ...change }), replace: true });
  // From the address as it is then, not as it was drawn: two keys may come faster than one drawing.
  const toggle = (name: string) =>
    void navigate({
      search: (before) => {
        const old = names(before.sel);
        const next = old.includes(name) ? old.filter((item) => item !== name) : [...old, name];
        return { ...before, sel: next.join(',') || undefined };
      },
      replace: true,
    });
  const compare = () => {
    if (selected.length) void navigate({ to: '/compare', search: { jobs: selected.join(',') } });
  };
  const move = (by: number) => {
    const next = step(at, by, rows.length);
    setAt(next);
    document.querySelector(`[data-row="${next}"]`)?.scrollIntoView({ block: 'nearest' });
  };

  useKeys({
    '/': () => field.current?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => rows[at] && toggle(rows[at].name),
    c: compare,
    Enter: () => rows[at] && void navigate({ to: '/runs/$job', params: { job: rows[at].name } }),
    Escape: () => set({ sel: undefined }),
  });

  return (
    <>
      <div className="head">
        <h1>Runs</h1>
        <input
          ref={field}
          className="field"
          type="search"
          placeholder="Filter, e.g. state:failed acam   /"
          aria-label="Filter runs"
          value={search.q ?? ''}
          onChange={(event) => set({ q: event.currentTarget.value || undefined })}
          onKeyDown={(event) => event.key === 'Escape' && event.currentTarget.blur()}
        />
        <span className="muted tabular">
          {jobs.data ? `${rows.length} of ${jobs.data.total}` : ''}
          {jobs.data?.next_cursor && `, looking at the newest ${jobs.data.items.length}`}
        </span>
        <FeedNote status={feed.status} />
        <span className="grow" />
        {selected.length > 0 && (
          <Button onClick={compare} rightSection={<span className="kbd">c</span>}>
            Compare {selected.length}
          </Button>
        )}
        <Button variant="filled" component={Link} to="/new">
          New run
        </Button>
      </div>
      {jobs.error && <Problem error={jobs.error} onRetry={() => void jobs.refetch()} />}
      {jobs.isPending && !jobs.error && <div className="skeleton" style={{ height: 320 }} aria-label="Loading" />}
      {jobs.data && jobs.data.total === 0 && (
        <Empty title="No runs yet" command="acamkd submit job.yaml --watch">
          <span>
            <code className="mono">acamkd init DIR</code> writes a job.yaml to start from; or{' '}
            <Link to="/new" className="link">fill in the form</Link>.
          </span>
        </Empty>
      )}
      {jobs.data && jobs.data.total > 0 && rows.length === 0 && <Empty title="No run matches the filter" />}
      {rows.length > 0 && <RunsTable rows={rows} at={at} selected={selected} onToggle={toggle} heard={feed.heard} />}
    </>
  );
}
