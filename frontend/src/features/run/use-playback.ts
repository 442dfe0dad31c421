import { useEffect, useRef, useState } from 'react';
import { neighbour } from '@/lib/keyboard';
import type { RunView } from './run-context';

export interface Playback {
  /** The evaluation on show. */
  shown: number | undefined;
  /** Whether new evaluations appear by themselves. */
  live: boolean;
  playing: boolean;
  /** Evaluations that arrived since the reader began to scrub. */
  newer: number;
  choose: (iteration: number) => void;
  /** To the evaluation before or after. */
  move: (by: 1 | -1) => void;
  follow: () => void;
  toggle: () => void;
}

const FRAME_MS = 500;

/** Live until the reader scrubs; then the choice is in the address, and new evaluations wait. */
export function usePlayback(
  iterations: readonly number[],
  chosen: number | undefined,
  set: RunView['set'],
): Playback {
  const [playing, setPlaying] = useState(false);
  const newest = iterations.at(-1);
  const known = useRef(newest);
  if (chosen === undefined || known.current === undefined) known.current = newest;
  const shown = chosen ?? newest;
  const latest = useRef({ iterations, shown, set });
  useEffect(() => {
    latest.current = { iterations, shown, set };
  });

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      const { iterations: all, shown: at, set: choose } = latest.current;
      const next = all.find((item) => item > (at ?? -1));
      if (next === undefined) setPlaying(false);
      else choose({ it: next });
    }, FRAME_MS);
    return () => clearInterval(timer);
  }, [playing]);

  return {
    shown,
    live: chosen === undefined,
    playing,
    newer: chosen === undefined ? 0 : iterations.filter((item) => item > (known.current ?? 0)).length,
    choose: (iteration) => {
      setPlaying(false);
      set({ it: iteration });
    },
    move: (by) => {
      setPlaying(false);
      set((before) => ({ it: neighbour(iterations, before.it ?? newest ?? 0, by) }));
    },
    follow: () => {
      setPlaying(false);
      set({ it: undefined });
    },
    toggle: () => {
      if (!playing && shown === newest && iterations[0] !== undefined) set({ it: iterations[0] });
      setPlaying(!playing);
    },
  };
}
