import { notifications } from '@mantine/notifications';
import { useNavigate } from '@tanstack/react-router';
import { neighbour } from '@/lib/keyboard';
import type { RunSearch } from '@/lib/url';
import { useKeys } from '@/lib/use-keys';
import type { Playback } from './use-playback';

export function useRunKeys(
  name: string,
  iterations: readonly number[],
  playback: Playback,
  search: RunSearch,
  set: (change: Partial<RunSearch>) => void,
): void {
  const navigate = useNavigate();
  const move = (by: 1 | -1) => {
    const next = neighbour(iterations, playback.shown ?? 0, by);
    if (next !== undefined) playback.choose(next);
  };
  const copyAddress = async () => {
    await navigator.clipboard.writeText(location.href);
    notifications.show({ message: 'Address of this view copied', autoClose: 1500 });
  };
  useKeys({
    '[': () => move(-1),
    ']': () => move(1),
    Space: playback.toggle,
    Escape: playback.follow,
    s: () => set({ s: search.s ? undefined : 'raw' }),
    l: () => set({ tab: search.tab === 'logs' ? undefined : 'logs' }),
    y: () => void copyAddress(),
    c: () => void navigate({ to: '/compare', search: { jobs: name } }),
    '.': () => document.querySelector<HTMLButtonElement>('[data-actions]')?.click(),
  });
}
