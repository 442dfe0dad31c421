import { IconPlayerPause, IconPlayerPlay } from '@tabler/icons-react';
import { count, duration } from '@/lib/format';
import { nearest } from '@/lib/series';
import { useCursorX } from '@/lib/shared-view';
import { nextEvaluation } from './model';
import { useRun } from './run-context';
import { useEvery } from './use-every';
import { useImage } from './use-pictures';

/** Moves through the evaluations. While the reader scrubs, new ones wait behind a pill. */
export function Scrubber() {
  const { job, ref, iterations, playback, panels, set } = useRun();
  const image = useImage();
  const every = useEvery(ref);
  const cursor = useCursorX();
  const at = playback.shown === undefined ? -1 : nearest(iterations, playback.shown);
  const hovered = cursor === null ? -1 : nearest(iterations, cursor);
  const next = nextEvaluation(every, job);
  if (!iterations.length) {
    return (
      <p className="muted tabular">
        {job.state === 'running' && next
          ? `First pictures at ${count(next.at)}${next.seconds === null ? '' : `, in ${duration(next.seconds)}`}.`
          : job.ended_at
            ? 'No pictures: it ended before its first evaluation.'
            : 'No pictures yet: they are drawn at every evaluation.'}
      </p>
    );
  }
  return (
    <div className="scrubber">
      <button type="button" className="plain" onClick={playback.toggle} aria-label={playback.playing ? 'Pause' : 'Play'}>
        {playback.playing ? <IconPlayerPause size={16} /> : <IconPlayerPlay size={16} />}
      </button>
      <span className="track">
        <input
          type="range"
          min={0}
          max={Math.max(0, iterations.length - 1)}
          value={Math.max(0, at)}
          aria-label="Evaluation"
          aria-valuetext={`iteration ${playback.shown}`}
          onChange={(event) => playback.choose(iterations[Number(event.currentTarget.value)]!)}
        />
        {hovered >= 0 && iterations.length > 1 && (
          <i style={{ left: `calc(8px + ${hovered / (iterations.length - 1)} * (100% - 16px))` }} aria-hidden />
        )}
      </span>
      <span className="tabular at">it {count(playback.shown)}</span>
      <button
        type="button"
        className={`pill ${playback.live || !playback.newer ? 'off' : ''}`}
        onClick={playback.follow}
        disabled={playback.live}
      >
        {playback.live ? 'live' : playback.newer ? `${playback.newer} newer` : 'to live'}
      </button>
      {panels.images.length > 1 && (
        <span className="images" role="radiogroup" aria-label="Validation image">
          {panels.images.map((item) => (
            <button
              key={item}
              type="button"
              role="radio"
              aria-checked={item === image}
              className="pill image"
              onClick={() => set({ img: item })}
            >
              {item}
            </button>
          ))}
        </span>
      )}
    </div>
  );
}
