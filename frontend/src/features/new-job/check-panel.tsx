/** What the server makes of the spec: its lines, its doctor's findings, where every value comes from. */
import { IconAlertTriangle, IconCircleCheck, IconInfoCircle } from '@tabler/icons-react';
import { useState } from 'react';
import type { FieldOrigin } from '@/api/types';
import { value } from '@/lib/format';
import { sentence } from './errors';
import type { Check } from './use-dry-run';

export function CheckPanel({ check, readable }: { check: Check; readable: boolean }) {
  const { answer, problems } = check;
  const findings = answer?.findings ?? [];
  return (
    <section className="check" aria-label="Check" aria-live="polite" style={{ opacity: check.settled ? 1 : 0.6 }}>
      <div className="row">
        <h2>Check</h2>
        <Verdict check={check} readable={readable} />
      </div>
      {check.failure && <p className="bad">{check.failure.message}</p>}
      {problems.length > 0 && (
        <ul className="findings">
          {problems.map((problem, index) => (
            <li key={index}>
              <IconAlertTriangle size={14} className="bad" aria-label="error" />
              <span>
                {problem.field && (
                  <button type="button" className="link mono field-link" onClick={() => goTo(problem.field!)}>
                    {problem.field}
                  </button>
                )}{' '}
                {sentence(problem)}
              </span>
            </li>
          ))}
        </ul>
      )}
      {answer && problems.length === 0 && (
        <>
          <div className="mono summary">
            {answer.summary.map((line) => <span key={line}>{line}</span>)}
          </div>
          <ul className="findings">
            {findings.map(({ severity, info }, index) => (
              <li key={index}>
                {severity === 'info' ? (
                  <IconInfoCircle size={14} className="muted" aria-label="note" />
                ) : (
                  <IconAlertTriangle size={14} className={severity === 'error' ? 'bad' : 'warn'} aria-label={severity} />
                )}
                <span>
                  {info.field && <span className="mono muted">{info.field} </span>}
                  {sentence(info)}
                </span>
              </li>
            ))}
          </ul>
          <Origins origins={answer.origins} given={answer.given} resolved={answer.resolved} />
        </>
      )}
    </section>
  );
}

function Verdict({ check, readable }: { check: Check; readable: boolean }) {
  if (check.failure) return <span className="bad">no answer</span>;
  if (!check.settled) return <span className="muted">checking</span>;
  if (check.problems.length > 0) {
    return <span className="state bad"><IconAlertTriangle size={14} />{check.problems.length} wrong</span>;
  }
  if (!check.answer || !readable) return <span className="muted">nothing to check</span>;
  return <span className="state"><IconCircleCheck size={14} className="good" />can be submitted</span>;
}

/** Opens the sections around a field and puts the cursor into it, or into the nearest field around it. */
function goTo(path: string): void {
  const parts = path.split('.');
  for (let length = parts.length; length > 0; length -= 1) {
    const id = `spec.${parts.slice(0, length).join('.')}`;
    const target = document.getElementById(id);
    if (!target) continue;
    for (let node = target.closest('details'); node; node = node.parentElement?.closest('details') ?? null) node.open = true;
    target.scrollIntoView({ block: 'center' });
    target.focus();
    return;
  }
}

const ORIGINS = ['given', 'automatic', 'default'] as const;

function Origins({ origins, given, resolved }: { origins: FieldOrigin[]; given: number; resolved: number }) {
  const [only, setOnly] = useState<FieldOrigin['origin']>('automatic');
  const rows = origins.filter((row) => row.origin === only);
  return (
    <details className="section">
      <summary>
        <b>Resolved</b>
        <span className="muted tabular">{given} lines given, {resolved} resolved</span>
      </summary>
      <div className="row inside">
        {ORIGINS.map((origin) => (
          <button
            key={origin}
            type="button"
            className={`pill ${only === origin ? '' : 'off'}`}
            aria-pressed={only === origin}
            onClick={() => setOnly(origin)}
          >
            {origin} {origins.filter((row) => row.origin === origin).length}
          </button>
        ))}
      </div>
      <table className="grid">
        <tbody>
          {rows.map((row) => (
            <tr key={row.path}>
              <td className="mono">{row.path}</td>
              <td className="mono muted" title={value(row.value)}>{value(row.value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
