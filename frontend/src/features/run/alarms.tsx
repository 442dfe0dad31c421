import { IconAlertTriangle } from '@tabler/icons-react';
import type { JobDetail } from '@/api/types';
import { count } from '@/lib/format';
import { useState } from 'react';
import { alarmsOf } from './model';

/** The newest alarm, and how many more; nothing at all when there is none. */
export function Alarms({ job }: { job: JobDetail }) {
  const [all, setAll] = useState(false);
  const alarms = alarmsOf(job);
  const first = alarms[0];
  if (!first) return null;
  return (
    <div className={`strip ${first.severity}`} role="status">
      <IconAlertTriangle size={16} className={first.severity === 'error' ? 'bad' : 'warn'} aria-hidden />
      <div className="grow">
        {(all ? alarms : [first]).map((alarm) => (
          <div key={`${alarm.time}${alarm.info.code}`}>
            <span className="muted tabular">it {count(alarm.iteration)}</span> {alarm.info.message}
            {alarm.info.hint && <span className="muted">. {alarm.info.hint}</span>}
          </div>
        ))}
      </div>
      {alarms.length > 1 && (
        <button type="button" className="plain" onClick={() => setAll(!all)}>
          {all ? 'newest only' : `${alarms.length - 1} more`}
        </button>
      )}
    </div>
  );
}
