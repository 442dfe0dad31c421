import { useRef } from 'react';

interface Props {
  text: string;
  error: string | null;
  onChange: (text: string) => void;
}

/** Plain text with line numbers. Tab leaves it, as it leaves any field. */
export function YamlEditor({ text, error, onChange }: Props) {
  const gutter = useRef<HTMLDivElement>(null);
  const lines = text.split('\n').length;
  const wrong = Number(/at line (\d+)/.exec(error ?? '')?.[1] ?? 0);
  return (
    <section className="yaml" aria-label="YAML">
      <div className={`editor ${error ? 'wrong' : ''}`}>
        <div className="gutter mono" aria-hidden ref={gutter}>
          {Array.from({ length: lines }, (_, index) => (
            <span key={index} className={index + 1 === wrong ? 'bad' : undefined}>{index + 1}</span>
          ))}
        </div>
        <textarea
          className="mono"
          aria-label="Spec as YAML"
          aria-invalid={error !== null}
          spellCheck={false}
          autoCapitalize="off"
          wrap="off"
          rows={Math.min(32, Math.max(12, lines + 1))}
          value={text}
          onChange={(event) => onChange(event.currentTarget.value)}
          onScroll={(event) => gutter.current && (gutter.current.scrollTop = event.currentTarget.scrollTop)}
        />
      </div>
      {error && <p className="bad small" role="alert">{error}. The form waits until the text can be read.</p>}
    </section>
  );
}
