import { Button } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { IconAlertTriangle, IconCircleCheck } from '@tabler/icons-react';
import { datasetQuery, inspectDataset, type DatasetInfo } from '@/api/datasets';
import { keys } from '@/api/keys';
import { Picture } from '@/components/picture';
import { Problem } from '@/components/problem';
import { count } from '@/lib/format';
import { DatasetState } from './dataset-state';
import {
  classesOf, countedIn, findingsOf, objectSizesOf, percent, share, sides, sizesOf, splitsOf, worstOf,
  type ClassRow, type Counted, type ObjectRow, type WorstRow,
} from './report';

export function DatasetDetail({ name }: { name: string }) {
  const dataset = useQuery(datasetQuery(name));
  const queries = useQueryClient();
  const again = useMutation({
    mutationFn: () => inspectDataset(name),
    onSuccess: () => void queries.invalidateQueries({ queryKey: keys.datasets.all }),
    onError: (error) => notifications.show({ color: 'red', title: 'Refused', message: error.message }),
  });
  if (dataset.error) return <Problem error={dataset.error} onRetry={() => void dataset.refetch()} />;
  if (!dataset.data) return <div className="skeleton" style={{ height: 480 }} aria-label="Loading" />;
  const data = dataset.data;
  return (
    <>
      <div className="row">
        <Link className="link" to="/datasets">Datasets</Link>
        <h1>{data.name}</h1>
        <DatasetState dataset={data} />
        <span className="grow" />
        {data.inspect_job && (
          <Link className="link" to="/runs/$job" params={{ job: data.inspect_job }} search={{ tab: 'logs' }}>Inspection log</Link>
        )}
        <Button loading={again.isPending} disabled={data.state === 'inspecting'} onClick={() => again.mutate()}>Inspect again</Button>
        <Button variant="filled" disabled={data.state === 'failed'} renderRoot={(props) => <Link {...props} to="/new" search={{ dataset: data.name }} />}>
          Train on it
        </Button>
      </div>
      <div className="facts-row tabular">
        <span>version <b className="mono">{data.version ?? 'not yet'}</b></span>
        <span>format <b>{data.format}</b></span>
        {Object.entries(data.options).map(([field, value]) => (
          <span key={field}>{field} <b className="mono">{typeof value === 'string' ? value : JSON.stringify(value)}</b></span>
        ))}
        {data.classes.length > 0 && <span><b>{data.classes.length}</b> classes</span>}
        {data.ignore_id != null && <span>ignore id <b>{data.ignore_id}</b></span>}
        <span className="mono">{data.root}</span>
      </div>
      {data.state === 'inspecting' && splitsOf(data).length === 0 ? (
        <div className="skeleton" style={{ height: 320 }} aria-label="Being inspected" />
      ) : (
        <Report data={data} />
      )}
    </>
  );
}

function Report({ data }: { data: DatasetInfo }) {
  const classes = classesOf(data);
  const splits = splitsOf(data);
  const unit = countedIn(data.task);
  const extra = { pixels: 'Ignored pixels', boxes: 'Boxes', images: null }[unit];
  const sizes = sizesOf(data);
  const most = Math.max(1, ...sizes.map((size) => size.count));
  return (
    <div className="library">
      <Findings data={data} />
      <WorstFiles rows={worstOf(data)} />
      <div className="halves">
        {splits.length > 0 && (
          <section className="scroll">
            <h2>Splits</h2>
            <table className="grid lines">
              <thead>
                <tr><th>Split</th><th className="num">Images</th><th className="num">Labelled</th>{extra && <th className="num">{extra}</th>}</tr>
              </thead>
              <tbody>
                {splits.map((split) => (
                  <tr key={split.role}>
                    <td>{split.role}</td>
                    <td className="num" data-label="images">{count(split.images)}</td>
                    <td className="num" data-label="labelled">{count(split.labelled)}</td>
                    {unit === 'pixels' && (
                      <td className="num" data-label="ignored">{split.pixels ? percent((100 * split.ignored) / split.pixels) : '–'}</td>
                    )}
                    {unit === 'boxes' && <td className="num" data-label="boxes">{count(split.boxes ?? 0)}</td>}
                  </tr>
                ))}
              </tbody>
            </table>
          </section>
        )}
        {sizes.length > 0 && (
          <section className="scroll">
            <h2>Image sizes</h2>
            <table className="grid lines">
              <thead>
                <tr><th>Width x height</th><th /><th className="num">Images</th></tr>
              </thead>
              <tbody>
                {sizes.map((size) => (
                  <tr key={`${size.width}x${size.height}`}>
                    <td className="tabular">{size.width} x {size.height}</td>
                    <td><span className="share"><i style={{ width: `${(100 * size.count) / most}%`, background: 'var(--muted)' }} /></span></td>
                    <td className="num" data-label="images">{count(size.count)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </section>
        )}
      </div>
      <ObjectSizes rows={objectSizesOf(data)} />
      {classes.length > 0 && <Classes rows={classes} unit={unit} roles={splits.filter((split) => split.labelled > 0).map(({ role }) => role)} />}
      {data.contact_sheet && (
        <section className="sheet">
          <h2>First images with their labels</h2>
          <Picture artifact={data.contact_sheet} alt={`Contact sheet of ${data.name}`} />
        </section>
      )}
    </div>
  );
}

function Findings({ data }: { data: DatasetInfo }) {
  const findings = findingsOf(data);
  if (data.state === 'ready' && findings.length === 0) {
    return <span className="state"><IconCircleCheck size={14} className="good" aria-hidden />Nothing wrong was found.</span>;
  }
  if (findings.length === 0) return null;
  return (
    <section>
      <h2>Findings</h2>
      <ul className="issues">
        {findings.map((finding) => (
          <li key={`${finding.code}-${finding.split}`}>
            <IconAlertTriangle size={14} className={finding.severity === 'error' ? 'bad' : 'warn'} aria-hidden />
            <span className="grow">
              <b className={finding.severity === 'error' ? 'bad' : 'warn'}>{finding.severity}</b> {finding.message}
              {finding.hint && <span className="muted"> {finding.hint}</span>}
              {finding.files.length > 0 && (
                <code className="mono">
                  {finding.files.slice(0, 6).join('  ')}
                  {finding.count > finding.files.slice(0, 6).length && `  and ${count(finding.count - Math.min(6, finding.files.length))} more`}
                </code>
              )}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Where to begin with mending; one file alone is named by its finding. */
function WorstFiles({ rows }: { rows: WorstRow[] }) {
  if (rows.length < 2) return null;
  return (
    <section className="scroll">
      <h2>Worst files</h2>
      <table className="grid lines">
        <thead>
          <tr><th>File</th><th className="num">Errors</th><th className="num">Warnings</th><th className="only-wide">Findings</th></tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.file}>
              <td className="mono">{row.file}</td>
              <td className={`num ${row.errors ? 'bad' : ''}`} data-label="errors">{count(row.errors)}</td>
              <td className="num" data-label="warnings">{count(row.warnings)}</td>
              <td className="muted only-wide">{row.codes.map((code) => code.replace('dataset.', '').replaceAll('_', ' ')).join(', ')}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function ObjectSizes({ rows }: { rows: ObjectRow[] }) {
  const roles = Object.keys(rows[0]?.boxes ?? {});
  if (roles.length === 0) return null;
  const most = Math.max(1, ...rows.flatMap((row) => roles.map((role) => row.boxes[role] ?? 0)));
  return (
    <section className="scroll">
      <h2>Object sizes</h2>
      <table className="grid lines">
        <thead>
          <tr><th>Side in pixels</th>{roles.map((role) => <th key={role}>{role}: boxes</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.side}>
              <td className="tabular">{sides(row)}</td>
              {roles.map((role) => (
                <td key={role} data-label={role} className="tabular">
                  <span className="share only-wide"><i style={{ width: `${(100 * (row.boxes[role] ?? 0)) / most}%`, background: 'var(--muted)' }} /></span>{' '}
                  {count(row.boxes[role] ?? 0)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Share of pixels (boxes, images) on a fixed scale over all splits, so that a class that is rarer in one of them shows. */
function Classes({ rows, roles, unit }: { rows: ClassRow[]; roles: string[]; unit: Counted }) {
  const most = Math.max(1e-9, ...roles.flatMap((role) => rows.map((row) => share(row, rows, role, unit))));
  return (
    <section className="scroll">
      <h2>Classes</h2>
      <table className="grid lines">
        <thead>
          <tr>
            <th className="num only-wide">Id</th>
            <th>Class</th>
            {roles.map((role) => <th key={role}>{role}: share of {unit}{unit === 'images' ? '' : ', images'}</th>)}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.id}>
              <td className="num muted only-wide">{row.id}</td>
              <td>
                <span className="swatch" style={{ background: `rgb(${row.color.join(',')})` }} /> {row.name}
              </td>
              {roles.map((role) => {
                const value = share(row, rows, role, unit);
                return (
                  <td key={role} data-label={role} className={`tabular ${value === 0 ? 'warn' : ''}`}>
                    <span className="share only-wide">
                      <i style={{ width: `${(100 * value) / most}%`, background: `rgb(${row.color.join(',')})` }} />
                    </span>{' '}
                    {percent(value)} <span className="muted">{count(row.images[role] ?? 0)}</span>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
