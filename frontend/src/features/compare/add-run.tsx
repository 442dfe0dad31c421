import { Select } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { jobsQuery } from '@/api/jobs';

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
