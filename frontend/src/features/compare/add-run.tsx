import { Select } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { controlRun } from '@/api/control';
import { jobsQuery } from '@/api/jobs';
import { Empty } from '@/components/command';

/** The page before a choice: the newest distilled runs, each against the student alone, one click away. */
export function NothingPicked({ onPick }: { onPick: (names: string[]) => void }) {
  const jobs = useQuery(jobsQuery()).data?.items ?? [];
  const pairs = jobs
    .filter((job) => job.state === 'succeeded')
    .flatMap((job) => {
      const alone = controlRun(job, jobs);
      return alone ? [[alone.name, job.name]] : [];
    })
    .slice(0, 3);
  const [alone, distilled] = pairs[0] ?? ['A', 'B'];
  return (
    <Empty title="Pick runs to compare: the first is the baseline" command={`acamkd diff ${alone} ${distilled}`}>
      {pairs.map((pair) => (
        <button key={pair.join()} type="button" className="link text" onClick={() => onPick(pair)}>
          {pair.join(' and ')}
        </button>
      ))}
    </Empty>
  );
}

export function AddRun({ picked, onAdd }: { picked: string[]; onAdd: (name: string) => void }) {
  const jobs = useQuery(jobsQuery());
  const offered = (jobs.data?.items ?? []).filter(
    (job) => job.kind === 'distill' && !picked.includes(job.name) && !picked.includes(job.id),
  );
  return (
    <Select
      size="xs"
      w={180}
      searchable
      placeholder="Add a run"
      aria-label="Add a run"
      data={offered.map((job) => ({ value: job.name, label: `${job.name} · ${job.methods.join(' + ') || 'student alone'}` }))}
      value={null}
      onChange={(name) => name && onAdd(name)}
      nothingFoundMessage="No other runs"
    />
  );
}
