import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';
import { panelsQuery } from '@/api/jobs';
import type { PanelInfo } from '@/api/types';
import { panelSet, type PanelSet } from '@/lib/panels';
import { useRun } from './run-context';

/** The validation image on show: the one in the address, else the first. */
export function useImage(): number | undefined {
  const { panels, search } = useRun();
  return search.img !== undefined && panels.images.includes(search.img) ? search.img : panels.images[0];
}

/**
 * The pictures of the evaluation on show: all of one image, or some kinds of all images.
 *
 * They are asked for one evaluation at a time, because a long run has tens of thousands; the neighbours are asked for
 * in advance, so that scrubbing shows no gaps. While a run is live, the pictures of its newest evaluation arrive one by
 * one: until each is there, that of the evaluation before keeps its place.
 */
export function usePictures(which: { image?: number; kind?: string[] }): PanelSet<PanelInfo> {
  const { ref, panels, iterations, playback } = useRun();
  const queries = useQueryClient();
  const shown = playback.shown;
  const at = shown === undefined ? -1 : iterations.indexOf(shown);
  const before = iterations[at - 1];
  const after = iterations[at + 1];
  const query = (iteration: number | undefined) => ({
    ...panelsQuery(ref, iteration ?? -1, which),
    enabled: iteration !== undefined && panels.iterations.length > 0,
  });
  const now = useQuery({
    ...query(shown),
    // Playing must not flicker; but another run's pictures are never shown, not even for a moment.
    placeholderData: (last, from) => (from?.queryKey[2] === ref ? last : undefined),
  }).data;
  const old = useQuery(query(playback.live ? before : undefined)).data;
  const wanted = JSON.stringify(which);
  useEffect(() => {
    if (playback.live) return;
    for (const iteration of [before, after]) {
      if (iteration !== undefined) void queries.prefetchQuery({ ...panelsQuery(ref, iteration, which), staleTime: 60_000 });
    }
    // eslint-disable-next-line react-hooks/exhaustive-deps -- `which` is new at every render, `wanted` is not
  }, [queries, ref, before, after, wanted, playback.live]);
  return useMemo(() => panelSet(panels.once ?? [], old ?? [], now ?? []), [panels.once, old, now]);
}
