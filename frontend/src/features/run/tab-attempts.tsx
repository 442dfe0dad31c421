import { useQuery } from '@tanstack/react-query';
import { attemptsQuery } from '@/api/jobs';
import { Empty } from '@/components/command';
import { Problem } from '@/components/problem';
import { count, duration } from '@/lib/format';
import { stamp } from '@/lib/time';
import { useRun } from './run-context';

export function AttemptsTab() {
  const { ref } = useRun();
  const attempts = useQuery(attemptsQuery(ref));
  if (attempts.error) return <Problem error={attempts.error} />;
  if (attempts.data && !attempts.data.length) return <Empty title="No worker has taken this job yet" />;
  return (
    <div className="scroll">
      <table className="grid lines">
        <thead>
          <tr>
            <th className="num">No.</th>
            <th>Worker</th>
            <th>Started</th>
            <th className="num">Took</th>
            <th className="num">From</th>
            <th className="num">Last checkpoint</th>
            <th>End</th>
            <th>Counted</th>
          </tr>
        </thead>
        <tbody>
          {(attempts.data ?? []).map((item) => (
            <tr key={item.number}>
              <td className="num" data-label="attempt">{item.number}</td>
              <td>
                {item.worker ?? '–'} <span className="muted">{[`pid ${item.pid ?? '–'}`, ...item.devices].join(', ')}</span>
              </td>
              <td className="tabular" data-label="started">{stamp(item.started_at)}</td>
              <td className="num" data-label="took">
                {item.ended_at ? duration((Date.parse(item.ended_at) - Date.parse(item.started_at)) / 1000) : 'running'}
              </td>
              <td className="num muted" data-label="from">{item.resumed_from == null ? 'start' : count(item.resumed_from)}</td>
              <td className="num muted" data-label="last checkpoint">{count(item.last_checkpoint)}</td>
              <td data-label="end">
                {item.exit ?? '–'}
                {item.reason && item.reason !== item.exit && <span className="muted"> {item.reason.replaceAll('_', ' ')}</span>}
              </td>
              <td className="muted" data-label="counted">{item.counted ? 'yes' : 'no'}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
