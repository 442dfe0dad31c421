import { Button } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { datasetsQuery, type DatasetInfo } from '@/api/datasets';
import { Command, Empty } from '@/components/command';
import '@/components/library.css';
import { Problem } from '@/components/problem';
import { ago } from '@/lib/format';
import { useNow } from '@/lib/use-now';
import { AddDataset } from './add';
import { DatasetState } from './dataset-state';
import { DatasetDetail } from './detail';
import './datasets.css';
import { images } from './report';

export function DatasetsPage() {
  const { name } = useSearch({ from: '/datasets' });
  return name === undefined ? <List /> : <DatasetDetail key={name} name={name} />;
}

function List() {
  const datasets = useQuery(datasetsQuery());
  const [adding, setAdding] = useState(false);
  const rows = datasets.data?.items ?? [];
  const empty = datasets.data !== undefined && rows.length === 0;
  return (
    <>
      <div className="head">
        <h1>Datasets</h1>
        <span className="muted tabular">{datasets.data ? `${datasets.data.total} registered` : ''}</span>
        <span className="grow" />
        {!empty && (
          <Button variant={adding ? 'default' : 'filled'} aria-expanded={adding} onClick={() => setAdding(!adding)}>
            {adding ? 'Close' : 'Add a dataset'}
          </Button>
        )}
      </div>
      {(adding || empty) && <AddDataset />}
      {datasets.error && <Problem error={datasets.error} onRetry={() => void datasets.refetch()} />}
      {datasets.isPending && !datasets.error && <div className="skeleton" style={{ height: 240 }} aria-label="Loading" />}
      {empty && (
        <Empty title="No dataset is registered yet">
          <span>
            A folder must lie under a root that the server was started with. The built-in{' '}
            <code className="mono">dataset: scenes</code> needs none.
          </span>
          <Command text="acamkd up --datasets /path/to/datasets" />
          <Command text="acamkd datasets inspect /path/to/datasets/camvid" />
        </Empty>
      )}
      {rows.length > 0 && <Table rows={rows} />}
    </>
  );
}

function Table({ rows }: { rows: DatasetInfo[] }) {
  const now = useNow(30_000);
  const navigate = useNavigate();
  return (
    <div className="scroll">
      <table className="grid two">
        <thead>
          <tr>
            <th>Dataset</th>
            <th className="only-wide">State</th>
            <th className="num only-wide">Classes</th>
            <th className="num">Train / val / test</th>
            <th className="num only-wide">Errors</th>
            <th className="num only-wide">Warnings</th>
            <th className="only-wide">Folder</th>
            <th className="num only-wide">Added</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.id} className="pick" onClick={() => void navigate({ to: '/datasets', search: { name: row.name } })}>
              <td>
                <Link to="/datasets" search={{ name: row.name }} onClick={(event) => event.stopPropagation()}>
                  <b>{row.name}</b>
                </Link>
                <span className="muted">{row.version ? `@${row.version.slice(0, 6)}` : ''}</span>
                <span className="only-narrow second">
                  <DatasetState dataset={row} />
                  <span>{row.classes.length} classes</span>
                  {row.errors > 0 && <span className="bad">{row.errors} errors</span>}
                  {row.warnings > 0 && <span className="warn">{row.warnings} warnings</span>}
                </span>
              </td>
              <td className="only-wide"><DatasetState dataset={row} /></td>
              <td className="num only-wide">{row.classes.length || '–'}</td>
              <td className="num">{images(row.images)}</td>
              <td className={`num only-wide ${row.errors ? 'bad' : 'muted'}`}>{row.errors}</td>
              <td className={`num only-wide ${row.warnings ? 'warn' : 'muted'}`}>{row.warnings}</td>
              <td className="only-wide mono muted" title={row.root}>{row.root}</td>
              <td className="num only-wide muted" title={row.created_at}>{ago((now - Date.parse(row.created_at)) / 1000)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
