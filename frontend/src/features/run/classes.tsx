import { count, points, signed } from '@/lib/format';
import { primaryMetric } from '@/lib/metric';
import { nearest } from '@/lib/series';
import { useCursorX } from '@/lib/shared-view';
import { classColors, classNames, classRows, teacherEvaluation } from './model';
import { useRun } from './run-context';

/** Scores per class at the evaluation under the page's cursor, or the one on show; widest gap to the teacher first. */
export function ClassTable() {
  const { job, evaluations, playback } = useRun();
  const cursor = useCursorX();
  const hovered = cursor === null ? -1 : nearest(evaluations.map((item) => item.iteration), cursor);
  const shown = evaluations.findLastIndex((item) => item.iteration <= (playback.shown ?? Infinity));
  const at = hovered >= 0 ? hovered : shown;
  const now = evaluations[at] ?? evaluations[0];
  const teacher = teacherEvaluation(job);
  const rowsAt = (index: number) => classRows(classNames(job), evaluations[index] ?? evaluations[0], evaluations[index - 1], teacher);
  // The cursor changes the numbers only: a row that jumped away could not be followed.
  const order = rowsAt(shown).map((row) => row.name);
  const rows = rowsAt(at).sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  const colors = classColors(job);
  if (!rows.length || (!now && !teacher)) return null;
  const widest = Math.max(1, ...rows.map((row) => Math.abs(row.gap ?? 0)));
  return (
    <section className="block">
      <div className="row">
        <h2>{primaryMetric(job.task).perClass} per class</h2>
        <span className="muted tabular">
          {now ? `at ${count(now.iteration)}` : 'before the first evaluation'}
          {teacher ? ', sorted by gap to the teacher' : ', worst first'}
        </span>
      </div>
      <div className="scroll" style={{ maxWidth: teacher ? undefined : 480 }}>
        <table className="grid lines">
          <thead>
            <tr>
              <th>Class</th>
              <th className="num">Student</th>
              {teacher && <th className="num">Teacher</th>}
              {teacher && <th className="num">Gap</th>}
              {teacher && <th className="only-wide" style={{ width: '40%' }} aria-label="Gap as a bar" />}
              <th className="num">Since last</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.name}>
                <td>
                  <span className="state">
                    <span className="swatch" style={{ background: colors[row.name], outline: '1px solid var(--line-strong)' }} />
                    {row.name}
                  </span>
                </td>
                <td className="num" data-label="student">{points(row.student)}</td>
                {teacher && <td className="num muted" data-label="teacher">{points(row.teacher)}</td>}
                {teacher && <td className="num" data-label="gap">{signed(row.gap)}</td>}
                {teacher && (
                  <td className="only-wide">
                    <GapBar gap={row.gap} widest={widest} />
                  </td>
                )}
                <td className="num muted" data-label="since last">{signed(row.change)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Blue above the teacher, orange below, around zero in the middle. */
function GapBar({ gap, widest }: { gap: number | null; widest: number }) {
  if (gap === null) return null;
  const share = (50 * Math.abs(gap)) / widest;
  return (
    <span className="gap-bar" aria-hidden>
      <i style={{ width: `${share}%`, [gap < 0 ? 'right' : 'left']: '50%', background: gap < 0 ? '#E69F00' : '#0072B2' }} />
    </span>
  );
}
