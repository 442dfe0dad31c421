/** The page's one stream, written into the query cache. */
import { useQueryClient, type QueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { Feed, type FeedStatus } from './feed';
import { jobEvent } from './cache';
import { keys } from './keys';

export interface FeedState {
  status: FeedStatus;
  /** When something last came from each job, in this browser's milliseconds. */
  heard: ReadonlyMap<string, number>;
}

/** Follows `jobs=a,b` or `scope=project`; null follows nothing. */
export function useFeed(query: string | null): FeedState {
  const queries = useQueryClient();
  const [state, setState] = useState<FeedState>({ status: 'connecting', heard: new Map() });
  useEffect(() => {
    if (query === null) return;
    const writer = jobEvent(queries);
    const heard = new Map<string, number>();
    const feed = new Feed({
      query,
      onEvent: (event) => {
        heard.set(event.job, Date.now());
        writer.take(event);
        setState((before) => ({ ...before, heard: new Map(heard) }));
      },
      onStatus: (status) => setState((before) => ({ ...before, status })),
      onGap: () => refetchAll(queries),
    });
    void feed.run();
    return () => {
      feed.stop();
      writer.stop();
    };
  }, [query, queries]);
  return state;
}

function refetchAll(queries: QueryClient): void {
  void queries.invalidateQueries({ queryKey: keys.jobs.all });
}
