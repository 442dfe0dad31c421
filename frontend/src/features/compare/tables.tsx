import { useState } from 'react';
import type { CompareAnswer, CompareJob } from '@/api/types';
import { runColor } from '@/lib/colors';
import { average, duration, fixed, milliseconds, overSeeds, parameters, points, signed, value } from '@/lib/format';
import { primaryMetric } from '@/lib/metric';
import { classDifferences, groupBySeed, tellingDifferences, values, type Group } from './model';

/** One row a group: scores over seeds, difference to the baseline's group, cost. */
export function Results({ answer }: { answer: CompareAnswer }) {
  const groups = groupBySeed(answer);
  const { key, label } = primaryMetric(answer.jobs[0]?.job.task);
  const tested = answer.jobs.some(({ job }) => job.metrics[`test/${key}`] !== undefined);
  const metric = `${tested ? 'test' : 'best'}/${key}`;
  const base = groups[0] ? values(answer, groups[0], metric) : [];
  return (
    <section className="block scroll">
      <table className="grid lines">
        <thead>
          <tr>
            <th>Runs</th>
            <th>Method</th>
            <th className="num">{`${label}, ${tested ? 'test' : 'best val'}`}</th>
            <th className="num">To baseline</th>
            <th className="num">Device time</th>
            <th className="num">Parameters</th>
            <th className="num">Latency</th>
          </tr>
        </thead>
        <tbody>
          {groups.map((group, index) => {
            const own = values(answer, group, metric);
            const first = answer.jobs[group.members[0]!]!;
            const profile = (first.profile as Record<string, { parameters?: number; latency_ms?: number; latency_conditions?: string }>)?.student;
            return (
              <tr key={group.label}>
                <td>
                  <span className="state">
                    <span className="swatch" style={{ background: runColor(group.methods) }} />
                    {group.label}
                  </span>
                </td>
                <td className="muted">{group.methods.join(' + ') || 'student alone'}</td>
                <td className="num" data-label={tested ? 'test' : 'best val'}>{overSeeds(own)}</td>
                <td className="num" data-label={index === 0 ? undefined : 'to baseline'}>{index === 0 ? <span className="muted">baseline</span> : difference(own, base)}</td>
                <td className="num" data-label="took">{deviceTime(answer, group)}</td>
                <td className="num">{parameters(profile?.parameters)}</td>
                <td className="num" title={profile?.latency_conditions}>
                  {milliseconds(profile?.latency_ms)}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

/** Signed difference of means; with one seed on either side it claims nothing. */
function difference(own: number[], base: number[]): string {
  if (!own.length || !base.length) return '–';
  const text = signed(average(own) - average(base));
  return own.length > 1 && base.length > 1 ? text : `${text} (1 seed)`;
}

function deviceTime(answer: CompareAnswer, group: Group): string {
  const known = group.members.map((index) => answer.jobs[index]?.device_seconds).filter((item): item is number => item != null);
  return known.length ? duration(average(known)) : '–';
}

/** Scores per class: the baseline's score, and every other run's difference to it. */
export function PerClass({ answer }: { answer: CompareAnswer }) {
  const rows = classDifferences(answer.jobs);
  if (!rows.length) return null;
  const [baseline, ...others] = answer.jobs as [CompareJob, ...CompareJob[]];
  const widest = Math.max(1, ...rows.flatMap((row) => row.differences.map((item) => Math.abs(item ?? 0))));
  return (
    <section className="block">
      <h2>{primaryMetric(baseline.job.task).perClass} per class, difference to {baseline.job.name}</h2>
      <div className="scroll">
        <table className="grid lines">
          <thead>
            <tr>
              <th>Class</th>
              <th className="num">{baseline.job.name}</th>
              {others.map(({ job }) => (
                <th key={job.id} className="num">
                  {job.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.name}>
                <td>{row.name}</td>
                <td className="num muted" data-label={baseline.job.name}>{points(row.baseline)}</td>
                {row.differences.map((item, index) => (
                  <td key={others[index]!.job.id} data-label={others[index]!.job.name} className="num" style={{ background: tint(item, widest) }}>
                    {signed(item)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Blue above, orange below, nothing at 0. */
function tint(difference: number | null, widest: number): string | undefined {
  if (difference === null || difference === 0) return undefined;
  const opacity = fixed((0.45 * Math.abs(difference)) / widest, 3);
  return difference > 0 ? `rgba(0, 114, 178, ${opacity})` : `rgba(230, 159, 0, ${opacity})`;
}

/** As many as leave the chart on the first screen. */
const SHOWN_FIELDS = 5;

/** The fields of the resolved specs that differ. */
export function Differing({ answer }: { answer: CompareAnswer }) {
  const [whole, setWhole] = useState(false);
  if (answer.jobs.length < 2) return null;
  const all = tellingDifferences(answer);
  const rows = whole ? all : all.slice(0, SHOWN_FIELDS);
  return (
    <section className="block">
      <div className="row">
        <h2>{all.length ? 'Fields that differ' : 'The specs do not differ'}</h2>
        {all.length > SHOWN_FIELDS && (
          <button type="button" className="pill off" aria-expanded={whole} onClick={() => setWhole(!whole)}>
            {whole ? 'fewer' : `${all.length - SHOWN_FIELDS} more`}
          </button>
        )}
      </div>
      {rows.length > 0 && (
        <div className="scroll">
          <table className="grid lines">
            <thead>
              <tr>
                <th>Field</th>
                {answer.jobs.map(({ job }) => (
                  <th key={job.id}>{job.name}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.path}>
                  <td className="mono">{row.path}</td>
                  {row.values.map((item, index) => (
                    <td key={index} data-label={answer.jobs[index]!.job.name} className="mono" title={value(item)}>
                      {value(item)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
