/** A state is an icon and a word; colour only underlines it. */
import {
  IconAlertTriangle, IconBan, IconCircleCheck, IconClock, IconHourglass, IconLoader2, IconPlayerPause,
} from '@tabler/icons-react';
import type { JobState } from '@/api/types';

const LOOKS: Record<JobState, { icon: typeof IconClock; tone: string; spins?: boolean }> = {
  waiting: { icon: IconHourglass, tone: 'muted' },
  queued: { icon: IconClock, tone: 'muted' },
  running: { icon: IconLoader2, tone: 'link', spins: true },
  paused: { icon: IconPlayerPause, tone: 'warn' },
  succeeded: { icon: IconCircleCheck, tone: 'good' },
  failed: { icon: IconAlertTriangle, tone: 'bad' },
  cancelled: { icon: IconBan, tone: 'muted' },
};

const REASONS: Record<string, string> = {
  early_stop: 'stopped early',
  user_cancel: 'by user',
  spec_or_data: 'spec or data',
  out_of_memory: 'out of memory',
  non_finite_loss: 'non-finite loss',
  worker_lost: 'worker lost',
  dependency_failed: 'its teacher failed',
  time_limit: 'time limit',
  bug: 'internal error',
  waits_for_teacher: 'for its teacher',
  paused_by_user: 'by user',
  released: 'released by its worker',
};

/** `stale` stops the turning icon: a silent job must not look alive. */
export function StateBadge({ state, reason, stale }: { state: JobState; reason?: string | null; stale?: boolean }) {
  const { icon: Icon, tone, spins } = LOOKS[state];
  const why = reason ? REASONS[reason] : undefined;
  return (
    <span className="state">
      <Icon size={14} stroke={2} className={`${stale ? 'muted' : tone} ${spins && !stale ? 'turn' : ''}`} aria-hidden />
      <span className={state === 'failed' ? 'bad' : undefined}>{state}</span>
      {why && <span className="muted">{why}</span>}
    </span>
  );
}
