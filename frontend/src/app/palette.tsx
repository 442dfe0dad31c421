import { Spotlight, spotlight, type SpotlightActionData } from '@mantine/spotlight';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { jobsQuery } from '@/api/jobs';

export const openPalette = (): void => spotlight.open();

interface Place {
  to: string;
  label: string;
}

/** Ctrl-K: every page and every run. */
export function Palette({ places }: { places: readonly Place[] }) {
  const navigate = useNavigate();
  const jobs = useQuery(jobsQuery());
  const actions: SpotlightActionData[] = [
    ...places.map(({ to, label }) => ({ id: to, label, onClick: () => void navigate({ to }) })),
    ...(jobs.data?.items ?? []).map((job) => ({
      id: job.id,
      label: job.name,
      description: [job.state, job.methods.join(' + ') || 'student alone', job.dataset].filter(Boolean).join(' · '),
      onClick: () => void navigate({ to: '/runs/$job', params: { job: job.name } }),
    })),
  ];
  return (
    <Spotlight
      actions={actions}
      shortcut="mod + K"
      limit={12}
      // It is gone at once: while it faded out it would still hold the focus, and swallow the next key.
      transitionProps={{ duration: 0 }}
      highlightQuery
      nothingFound="Nothing by that name"
      searchProps={{ placeholder: 'Go to a page or a run' }}
    />
  );
}
