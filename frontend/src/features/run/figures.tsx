import { useQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { metricsQuery } from '@/api/jobs';
import { average, fixed, macs, milliseconds, parameters, points, signed } from '@/lib/format';
import { primaryMetric } from '@/lib/metric';
import { maskSets, profileOf, teacherEvaluation } from './model';
import { METRIC_NAMES } from './metric-names';
import { useRun } from './run-context';

const pulls = (pull: number | null): string => (pull === null ? '' : `pulls ${fixed(pull, 1)}× the labels`);

/** The four figures above the fold. They keep their places while they are unknown. */
export function Figures() {
  const { job, ref, evaluations } = useRun();
  const metrics = useQuery(metricsQuery(ref, METRIC_NAMES)).data;
  const last = (name: string) => metrics?.series.find((series) => series.name === name)?.y.at(-1) ?? null;
  const { key, label } = primaryMetric(job.task);
  const now = evaluations.at(-1)?.metrics[key] ?? job.metrics[`val/${key}`];
  const best = evaluations.length
    ? Math.max(...evaluations.map((item) => item.metrics[key] ?? -Infinity))
    : job.metrics[`best/${key}`];
  const teacher = teacherEvaluation(job)?.metrics[key] ?? job.metrics[`teacher/${key}`];
  const test = job.metrics[`test/${key}`];
  const sets = maskSets(metrics?.names ?? []);
  const student = profileOf(job, 'student');
  const big = profileOf(job, 'teacher');
  const share = last('kd/share');
  return (
    <dl className="figures tabular">
      <Figure label={`${label}, val${test === undefined ? '' : ' (test)'}`}>
        <b>{points(now)}</b>
        {test !== undefined && <span className="second">({points(test)})</span>}
        <small>
          best {points(best)}
          {teacher !== undefined && `, ${signed((best ?? NaN) - teacher)} to teacher ${points(teacher)}`}
        </small>
      </Figure>
      <Figure label="KD share of the loss">
        <b>{share === null ? '–' : `${fixed(share * 100, 0)} %`}</b>
        <small>
          {!job.methods.length
            ? 'student alone'
            : !metrics
              ? ''
              : last('kd/mse_ratio') === null
                ? pulls(last('kd/pull')) || 'without the terms that only the method learns from'
                : [pulls(last('kd/pull')), `KD/MSE ${fixed(last('kd/mse_ratio'), 2)}`].filter(Boolean).join(', ')}
        </small>
      </Figure>
      <Figure label="Effective masks">
        <b>
          {sets[0] ? fixed(meanRank(sets, sets[0].label, last), 1) : '–'}
          {sets[0] && sets[0].masks > 0 && <span className="of"> of {sets[0].masks}</span>}
        </b>
        <small>
          {otherMasks(sets, last) ||
            (!metrics ? '' : job.methods.length && !job.progress.iteration ? 'measured from the first step' : 'no masks in this method')}
        </small>
      </Figure>
      <Figure label={student ? `Latency, ${student.latency_conditions}` : 'Latency and size'}>
        <b>{milliseconds(student?.latency_ms)}</b>
        {big && student && <span className="second">of {milliseconds(big.latency_ms)}</span>}
        <small>
          {student
            ? `${parameters(student.parameters)}${big ? ` of ${parameters(big.parameters)}` : ''} parameters, ${macs(student.macs)}`
            : job.ended_at
              ? 'not measured'
              : 'measured before the first step'}
        </small>
      </Figure>
    </dl>
  );
}

type MaskSet = ReturnType<typeof maskSets>[number];
type Last = (name: string) => number | null;
const kindOf = (label: string): string => label.split(' ').at(-1)!;

/** Mean over the levels that have masks of the kind that a label names. */
function meanRank(sets: MaskSet[], label: string, last: Last): number | null {
  const ranks = sets.filter((set) => kindOf(set.label) === kindOf(label)).flatMap((set) => last(set.rank) ?? []);
  return ranks.length ? average(ranks) : null;
}

/** What the large figure leaves out: one line, however many levels a pyramid has. */
function otherMasks(sets: MaskSet[], last: Last): string {
  const [first, ...others] = sets;
  if (!first) return '';
  if (sets.length <= 2) {
    return others.map((set) => `${set.label} ${fixed(last(set.rank), 1)} of ${set.masks}`).join(', ') || first.label;
  }
  const levels = sets.filter((set) => kindOf(set.label) === kindOf(first.label)).length;
  const channel = sets.find((set) => kindOf(set.label) !== kindOf(first.label));
  return `mean of ${levels} levels${channel ? `, ${kindOf(channel.label)} ${fixed(meanRank(sets, channel.label, last), 1)} of ${channel.masks}` : ''}`;
}

function Figure({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div>
      <dt className="clip" title={label}>
        {label}
      </dt>
      <dd>{children}</dd>
    </div>
  );
}
