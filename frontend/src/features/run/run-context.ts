import { createContext, useContext } from 'react';
import type { EvaluationPayload, JobDetail, PanelIndex } from '@/api/types';
import type { RunSearch } from '@/lib/url';
import type { Playback } from './use-playback';

export interface RunView {
  job: JobDetail;
  /** The job as the address names it (name or id): the key of every query of the page. */
  ref: string;
  search: RunSearch;
  set: (change: Partial<RunSearch> | ((before: RunSearch) => Partial<RunSearch>)) => void;
  evaluations: EvaluationPayload[];
  /** Where there are pictures; the pictures themselves come with `usePictures`. */
  panels: PanelIndex;
  iterations: number[];
  playback: Playback;
}

export const RunContext = createContext<RunView | null>(null);

export function useRun(): RunView {
  const view = useContext(RunContext);
  if (!view) throw new Error('no RunContext above');
  return view;
}
