import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { specQuery } from '@/api/jobs';
import type { FieldOrigin } from '@/api/types';
import { Command } from '@/components/command';
import { Problem } from '@/components/problem';
import { value } from '@/lib/format';
import { useRun } from './run-context';

const ORIGINS = ['given', 'default', 'automatic'] as const;

/** Every leaf of the resolved spec, and where its value comes from. */
export function SpecTab() {
  const { job, ref } = useRun();
  const spec = useQuery(specQuery(ref));
  const [only, setOnly] = useState<FieldOrigin['origin'] | null>(null);
  if (spec.error) return <Problem error={spec.error} />;
  if (!spec.data) return <div className="skeleton" style={{ height: 400 }} />;
  const rows = spec.data.origins.filter((row) => only === null || row.origin === only);
  return (
    <>
      <div className="row" style={{ marginBottom: 8 }}>
        <span className="tabular">
          {spec.data.given} lines given, {spec.data.resolved} resolved
        </span>
        {ORIGINS.map((origin) => (
          <button
            key={origin}
            type="button"
            className={`pill ${only === origin ? '' : 'off'}`}
            aria-pressed={only === origin}
            onClick={() => setOnly(only === origin ? null : origin)}
          >
            {origin} {spec.data.origins.filter((row) => row.origin === origin).length}
          </button>
        ))}
        <span className="grow" />
        <span className="only-wide">
          <Command text={`acamkd show ${job.name} --resolved -o yaml`} />
        </span>
      </div>
      <div className="scroll">
        <table className="grid spec lines">
          <thead>
            <tr>
              <th>Field</th>
              <th>Value</th>
              <th>Origin</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.path}>
                <td className="mono">{row.path}</td>
                <td className={`mono ${row.origin === 'default' ? 'muted' : ''}`} title={value(row.value)}>
                  {value(row.value)}
                </td>
                <td className={row.origin === 'given' ? '' : 'muted'}>{row.origin}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
