import { useNavigate } from '@tanstack/react-router';
import { useKeys } from '@/lib/use-keys';
import type { RunView } from './run-context';
import type { Playback } from './use-playback';

export function useRunKeys(
  name: string,
  playback: Playback,
  set: RunView['set'],
): void {
  const navigate = useNavigate();
  useKeys({
    '[': () => playback.move(-1),
    ']': () => playback.move(1),
    Space: playback.toggle,
    Escape: playback.follow,
    s: () => set((before) => ({ s: before.s ? undefined : 'raw' })),
    l: () => set((before) => ({ tab: before.tab === 'logs' ? undefined : 'logs' })),
    c: () => void navigate({ to: '/compare', search: { jobs: name } }),
    '.': () => document.querySelector<HTMLButtonElement>('[data-actions]')?.click(),
  });
}
