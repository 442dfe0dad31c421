import { useQuery } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState } from 'react';
import { logsQuery } from '@/api/jobs';
import type { LogLine } from '@/api/types';
import { Empty } from '@/components/command';
import { Problem } from '@/components/problem';
import { useCursorX, useSharedView } from '@/lib/shared-view';
import { clock } from '@/lib/time';
import { iterationOf, nearestLine } from './log-lines';
import { useRun } from './run-context';

/** The log, following its end until the reader scrolls up. */
export function LogsTab() {
  const { job, ref } = useRun();
  const log = useQuery(logsQuery(ref));
  const [filter, setFilter] = useState('');
  const [following, setFollowing] = useState(true);
  const box = useRef<HTMLDivElement>(null);
  const view = useSharedView();
  const cursor = useCursorX();
  const all = (log.data?.lines ?? []) as unknown as LogLine[];
  const lines = useMemo(() => {
    const found = (log.data?.lines ?? []) as unknown as LogLine[];
    return filter ? found.filter((line) => line.text.toLowerCase().includes(filter.toLowerCase())) : found;
  }, [log.data, filter]);
  const places = useMemo(() => lines.map((line) => iterationOf(line.text)), [lines]);
  const marked = nearestLine(places, cursor ?? view.chosen);
  useEffect(() => {
    if (following && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [following, lines.length]);
  // A choice made elsewhere (chart, scrubber, address) is brought into view; a click in here is already there.
  useEffect(() => {
    const line = view.chosen === null ? -1 : nearestLine(places, view.chosen);
    if (line < 0 || !box.current) return;
    setFollowing(false);
    box.current.querySelectorAll('[data-line]')[line]?.scrollIntoView({ block: 'nearest' });
    // eslint-disable-next-line react-hooks/exhaustive-deps -- new lines must not move the reader
  }, [view.chosen, log.data === undefined]);
  if (log.error) return <Problem error={log.error} />;
  if (log.data && !all.length) return <Empty title="Nothing logged yet" command={`acamkd logs -f ${job.name}`} />;
  return (
    <>
      <div className="row" style={{ marginBottom: 8 }}>
        <input
          className="field"
          placeholder="Find in the log"
          aria-label="Find in the log"
          value={filter}
          onChange={(event) => setFilter(event.currentTarget.value)}
        />
        <span className="muted tabular">{lines.length.toLocaleString('en-US')} lines</span>
        {!following && (
          <button type="button" className="pill" onClick={() => setFollowing(true)}>
            to the end
          </button>
        )}
      </div>
      <div
        ref={box}
        className="log mono"
        tabIndex={0}
        role="log"
        onScroll={(event) => {
          const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
          setFollowing(scrollHeight - scrollTop - clientHeight < 24);
        }}
      >
        {lines.map((line, index) => (
          <div
            key={line.n}
            data-line
            className={`${line.level} ${index === marked ? 'marked' : ''} ${places[index] === null ? '' : 'pick'}`}
            onMouseEnter={() => view.cursor.set(places[index] ?? null)}
            onMouseLeave={() => view.cursor.set(null)}
            onClick={() => {
              if (places[index] != null && getSelection()?.isCollapsed !== false) view.choose(places[index]);
            }}
          >
            {line.attempt !== lines[index - 1]?.attempt && <div className="attempt">attempt {line.attempt}</div>}
            <span className="when">{clock(line.time)}</span> {line.text}
          </div>
        ))}
      </div>
    </>
  );
}
