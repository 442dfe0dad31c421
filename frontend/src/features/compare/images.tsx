import { IconChevronLeft, IconChevronRight } from '@tabler/icons-react';
import { useQueries, useQuery } from '@tanstack/react-query';
import { panelIndexQuery, panelsQuery } from '@/api/jobs';
import type { JobSummary } from '@/api/types';
import { Picture } from '@/components/picture';
import { count } from '@/lib/format';
import { neighbour } from '@/lib/keyboard';
import { panelSet } from '@/lib/panels';
import { nearest } from '@/lib/series';
import type { CompareSearch } from '@/lib/url';
import { useKeys } from '@/lib/use-keys';
import { evaluationsOf } from './model';

interface Props {
  jobs: JobSummary[];
  search: CompareSearch;
  set: (change: Partial<CompareSearch>) => void;
}

/** The same validation image in every run, at the evaluation nearest to the chosen iteration. */
export function CompareImages({ jobs, search, set }: Props) {
  const indices = useQueries({ queries: jobs.map((job) => panelIndexQuery(job.name)) }).map((answer) => answer.data);
  const stops = evaluationsOf(indices.map((index) => index?.iterations ?? []));
  const move = (by: 1 | -1) => stops.length && set({ it: neighbour(stops, search.it ?? stops.at(-1)!, by) });
  useKeys({ '[': () => move(-1), ']': () => move(1), Escape: () => set({ it: undefined }) });
  const images = indices.find((index) => index?.images.length)?.images ?? [];
  const image = search.img !== undefined && images.includes(search.img) ? search.img : images[0];
  if (image === undefined) return null;
  const once = panelSet(...indices.map((index) => index?.once ?? []));
  return (
    <section className="block">
      <div className="row">
        <h2>Prediction on validation image {image}</h2>
        <span className="images" role="radiogroup" aria-label="Validation image">
          {images.map((item) => (
            <button key={item} type="button" className="pill image" aria-checked={item === image} role="radio" onClick={() => set({ img: item })}>
              {item}
            </button>
          ))}
        </span>
        <button type="button" className="plain" aria-label="Evaluation before" title="Evaluation before: [" onClick={() => move(-1)}>
          <IconChevronLeft size={16} />
        </button>
        <button type="button" className="plain" aria-label="Evaluation after" title="Evaluation after: ]" onClick={() => move(1)}>
          <IconChevronRight size={16} />
        </button>
        <span className="muted">{search.it === undefined ? 'newest evaluation; click the chart to move' : `near ${count(search.it)}`}</span>
        {search.it !== undefined && (
          <button type="button" className="pill off" onClick={() => set({ it: undefined })}>
            newest
          </button>
        )}
      </div>
      <div className="panels many">
        {['image', 'truth'].map((kind) => (
          <figure className="panel" key={kind}>
            <Picture artifact={once.find(image, kind)?.artifact} alt={`${kind === 'image' ? 'Image' : 'Truth of image'} ${image}`} />
            <figcaption>{kind === 'image' ? 'Image' : 'Truth'}</figcaption>
          </figure>
        ))}
        {jobs.map((job, position) => {
          const iterations = indices[position]?.iterations ?? [];
          const at = search.it === undefined ? iterations.length - 1 : nearest(iterations, search.it);
          return <Prediction key={job.id} job={job.name} image={image} iteration={iterations[at]} />;
        })}
      </div>
    </section>
  );
}

function Prediction({ job, image, iteration }: { job: string; image: number; iteration: number | undefined }) {
  const panels = useQuery({
    ...panelsQuery(job, iteration ?? -1, { kind: ['prediction'] }),
    enabled: iteration !== undefined,
  }).data;
  return (
    <figure className="panel">
      <Picture artifact={panelSet(panels ?? []).find(image, 'prediction')?.artifact} alt={`Prediction of ${job}`} />
      <figcaption className="clip tabular">
        {job} <span className="muted">{count(iteration)}</span>
      </figcaption>
    </figure>
  );
}
