import { useRun } from './run-context';

/** The colours of error pictures, as `acamkd_core/tasks/pictures.py` and its neighbours draw them. */
const ORANGE = '#E67E00';
const FAINT = '#DA9A55';
const BLUE = '#0072B2';
const GREY = '#969696';
const DARK = '#202020';

type Sign = readonly [color: string, meaning: string, cross?: boolean];

/** What the signs mean. With a teacher they tell what only the student misses, and what only it finds. */
export function errorSigns(task: string | null | undefined, taught: boolean): Sign[] {
  if (task === 'detection') {
    const better: Sign[] = taught ? [[BLUE, 'found, the teacher misses it']] : [];
    return [[GREY, 'found'], [ORANGE, 'missed'], ...better, [ORANGE, 'nothing there', true]];
  }
  const better: Sign[] = taught ? [[BLUE, 'right, the teacher is wrong']] : [];
  if (task === 'classification') return [[GREY, 'right'], [ORANGE, 'wrong'], ...better];
  const wrong: Sign[] = taught ? [[ORANGE, 'wrong, the teacher is right'], [FAINT, 'both are wrong']] : [[ORANGE, 'wrong']];
  return [...wrong, ...better, [DARK, 'not scored']];
}

export function ErrorKey() {
  const { job } = useRun();
  return (
    <div className="palette" aria-label="What the error pictures show">
      <span className="muted">Error</span>
      {errorSigns(job.task, job.teacher != null).map(([color, meaning, cross]) => (
        <span key={meaning} className="state">
          {cross ? (
            <span style={{ color }}>×</span>
          ) : (
            <span className="swatch" style={{ background: color, outline: '1px solid var(--line-strong)' }} />
          )}{' '}
          {meaning}
        </span>
      ))}
    </div>
  );
}
