import { useQuery } from '@tanstack/react-query';
import { metricsQuery } from '@/api/jobs';
import { Chart } from '@/components/chart';
import { runColor } from '@/lib/colors';
import { compact, count, duration, fixed, macs, milliseconds, parameters } from '@/lib/format';
import { useAttemptMarks } from './charts';
import { METRIC_NAMES } from './metric-names';
import { profileOf } from './model';
import { useRun } from './run-context';

export function SystemTab() {
  const { job } = useRun();
  const { progress } = job;
  const facts: [string, string][] = [
    ['Stage', progress.stage || '–'],
    ['Rate', progress.iterations_per_second ? `${fixed(progress.iterations_per_second, 2)} it/s, ${fixed(progress.images_per_second, 1)} images/s` : '–'],
    ['Epoch', fixed(progress.epoch, 2)],
    ['Time in training steps', duration(progress.device_seconds)],
    ['Waiting for data', progress.data_wait == null ? '–' : `${fixed(progress.data_wait * 100, 0)} % of the time`],
    ['Images', Object.entries((job.dataset_info?.images as Record<string, number>) ?? {}).map(([split, n]) => `${split} ${count(n)}`).join(', ') || '–'],
  ];
  return (
    <div className="halves">
      <section className="block">
        <h2>Run</h2>
        <table className="grid">
          <tbody>
            {facts.map(([name, text]) => (
              <tr key={name}>
                <td className="muted">{name}</td>
                <td className="tabular">{text}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <Networks />
      <Curve name="lr" title="Learning rate" />
      <Curve name="kd/mse_ratio" title="KD / MSE" />
      <Curve name="kd/share" title="KD share of the loss" />
      <Curve name="kd/pull" title="Pull of KD (labels: 1)" />
      <Curve name="kd/agreement" title="KD agrees with the labels" />
    </div>
  );
}

function Networks() {
  const { job } = useRun();
  const roles = (['student', 'teacher'] as const).map((role) => [role, profileOf(job, role)] as const);
  return (
    <section className="block">
      <h2>Networks</h2>
      <div className="scroll">
        <table className="grid lines">
          <thead>
            <tr>
              <th />
              <th className="num">Parameters</th>
              <th className="num">Multiply-adds</th>
              <th className="num">Latency</th>
              <th>Measured on</th>
            </tr>
          </thead>
          <tbody>
            {roles.map(([role, profile]) =>
              profile ? (
                <tr key={role}>
                  <td>
                    {role} <span className="muted">{profile.arch}</span>
                  </td>
                  <td className="num">{parameters(profile.parameters)}</td>
                  <td className="num">{macs(profile.macs)}</td>
                  <td className="num" data-label="latency">{milliseconds(profile.latency_ms)}</td>
                  <td className="muted wrap">{profile.latency_conditions}</td>
                </tr>
              ) : null,
            )}
          </tbody>
        </table>
      </div>
      {job.teacher_program && (
        <p className="wrap">
          The teacher is a program, <code>{job.teacher_program.file}</code>
          {job.teacher_program.sha256 && <span className="muted"> (sha256 {job.teacher_program.sha256.slice(0, 12)})</span>}: {ranCode(job.teacher_program.ran_code)}.
        </p>
      )}
      {(job.pairs ?? []).map((pair, index) => (
        <p key={index} className="muted">
          {pairLine(pair)}
        </p>
      ))}
    </section>
  );
}

function ranCode(ran: boolean | null | undefined): string {
  if (ran == null) return 'the run ended before training, and its log says whether its code ran';
  return ran ? 'its code ran on the worker' : 'its code has not run';
}

/** Two levels that a term compares, in the words of the submission; of older runs as `channels @ stride`. */
function pairLine(pair: Record<string, unknown>): string {
  if (pair.text) return `${String(pair.method)}: ${String(pair.text)}`;
  const level = (role: string) => `${String(pair[`${role}_level`])} ${((pair[role] ?? []) as number[]).join(' @ ')}`;
  const adapter = pair.adapter ? '1×1 adapter' : 'no adapter';
  return `${String(pair.method)}: student ${level('student')}, teacher ${level('teacher')}, ${adapter}`;
}

function Curve({ name, title }: { name: string; title: string }) {
  const { job, ref } = useRun();
  const { marks, range } = useAttemptMarks();
  const series = useQuery(metricsQuery(ref, METRIC_NAMES)).data?.series.find((line) => line.name === name);
  if (!series) return null;
  const envelope = series.low && series.high;
  const color = name === 'lr' ? '--ink' : runColor(job.methods);
  return (
    <Chart
      title={title}
      x={series.x}
      ys={envelope ? [series.y, series.low!, series.high!] : [series.y]}
      lines={[
        { label: title, color, width: 1.2 },
        ...(envelope ? [{ label: 'min', color: 'transparent', quiet: true }, { label: 'max', color: 'transparent', quiet: true }] : []),
      ]}
      bands={envelope ? [{ series: [3, 2], fill: 'rgba(136, 136, 136, 0.22)' }] : undefined}
      {...{ marks, range }}
      height={140}
      format={compact}
    />
  );
}
