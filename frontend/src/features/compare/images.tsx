import { useQueries } from '@tanstack/react-query';
import { useMemo } from 'react';
import { panelsQuery } from '@/api/jobs';
import type { JobSummary } from '@/api/types';
import { Picture } from '@/components/picture';
import { count } from '@/lib/format';
import { indexPanels } from '@/lib/panels';
import { nearest } from '@/lib/series';
import type { CompareSearch } from '@/lib/url';

interface Props {
  jobs: JobSummary[];
  search: CompareSearch;
  set: (change: Partial<CompareSearch>) => void;
}

/** The same validation image in every run, at the evaluation nearest to the chosen iteration. */
export function CompareImages({ jobs, search, set }: Props) {
  const answers = useQueries({ queries: jobs.map((job) => panelsQuery(job.name)) });
  const loaded = answers.map((answer) => answer.data);
  // eslint-disable-next-line react-hooks/exhaustive-deps -- the arrays are new at every render, their items are not
  const indices = useMemo(() => loaded.map((panels) => indexPanels(panels ?? [])), loaded);
  const images = indices[0]?.images ?? [];
  const image = search.img !== undefined && images.includes(search.img) ? search.img : images[0];
  if (image === undefined) return null;
  const truth = indices[0]!.find(0, image, 'truth');
  return (
    <section className="block">
      <div className="row">
        <h2>Prediction on validation image {image}</h2>
        <span className="images">
          {images.map((item) => (
            <button key={item} type="button" className="pill image" aria-checked={item === image} role="radio" onClick={() => set({ img: item })}>
              {item}
            </button>
          ))}
        </span>
        <span className="muted">{search.it === undefined ? 'newest evaluation' : `near ${count(search.it)}; click the chart to move`}</span>
      </div>
      <div className="panels many">
        <figure className="panel">
          <Picture artifact={truth?.artifact} alt={`Truth of image ${image}`} />
          <figcaption>Truth</figcaption>
        </figure>
        {jobs.map((job, position) => {
          const index = indices[position]!;
          const at = search.it === undefined ? index.iterations.length - 1 : nearest(index.iterations, search.it);
          const iteration = index.iterations[at];
          return (
            <figure className="panel" key={job.id}>
              <Picture
                artifact={iteration === undefined ? undefined : index.find(iteration, image, 'prediction')?.artifact}
                alt={`Prediction of ${job.name}`}
              />
              <figcaption className="clip tabular">
                {job.name} <span className="muted">{count(iteration)}</span>
              </figcaption>
            </figure>
          );
        })}
      </div>
    </section>
  );
}
