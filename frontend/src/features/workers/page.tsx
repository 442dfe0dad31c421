import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { IconAlertTriangle, IconCircleCheck, IconPlayerStop } from '@tabler/icons-react';
import { workersQuery } from '@/api/workers';
import type { components } from '@/api/schema';
import { Command, Empty } from '@/components/command';
import '@/components/library.css';
import { Problem } from '@/components/problem';
import { ago, bytes, fixed } from '@/lib/format';

type WorkerInfo = components['schemas']['WorkerInfo'];

const START = 'acamkd worker';

export function WorkersPage() {
  const workers = useQuery(workersQuery());
  const rows = workers.data?.items ?? [];
  const online = rows.filter(({ state }) => state === 'online');
  const slots = online.reduce((sum, { slots }) => sum + slots, 0);
  const busy = online.reduce((sum, worker) => sum + worker.busy, 0);
  return (
    <>
      <div className="head">
        <h1>Workers</h1>
        {rows.length > 0 && (
          <span className="muted tabular">{online.length} online, {busy} of {slots} slots busy</span>
        )}
      </div>
      {workers.error && <Problem error={workers.error} onRetry={() => void workers.refetch()} />}
      {workers.isPending && !workers.error && <div className="skeleton" style={{ height: 160 }} aria-label="Loading" />}
      {workers.data && rows.length === 0 && (
        <Empty title="No worker yet" command={START}>
          <span>
            Jobs wait in the queue until a worker takes them. <code className="mono">acamkd up</code> starts one beside
            the server; another machine joins with the same data folder or database.
          </span>
        </Empty>
      )}
      {rows.length > 0 && online.length === 0 && (
        <div className="strip" role="alert">
          <IconAlertTriangle size={16} className="warn" />
          <span className="grow">No worker is online: jobs stay in the queue.</span>
          <Command text={START} />
        </div>
      )}
      {rows.length > 0 && <Table rows={rows} />}
    </>
  );
}

function Table({ rows }: { rows: WorkerInfo[] }) {
  return (
    <div className="scroll">
      <table className="grid two">
        <thead>
          <tr>
            <th>Worker</th>
            <th className="only-wide">State</th>
            <th className="num">Slots</th>
            <th className="only-wide">Runs</th>
            <th className="only-wide">Devices</th>
            <th className="num only-wide">CPU</th>
            <th className="num only-wide">Memory</th>
            <th className="num">Last seen</th>
            <th className="only-wide">Versions</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((worker) => (
            <tr key={worker.id}>
              <td>
                <b>{worker.name}</b>{' '}
                <span className="muted only-wide">{worker.host === worker.name ? '' : worker.host} pid {worker.pid}</span>
                <span className="only-narrow second">
                  <State state={worker.state} />
                  <span>{worker.devices.join(', ')}</span>
                  <span className="tabular">CPU {fixed(worker.cpu_percent, 0)} %, {memory(worker)}</span>
                  <Jobs worker={worker} />
                </span>
              </td>
              <td className="only-wide"><State state={worker.state} /></td>
              <td className="num">{worker.busy} of {worker.slots}</td>
              <td className="only-wide"><Jobs worker={worker} /></td>
              <td className="only-wide">
                {worker.devices.join(', ') || '–'}{' '}
                <span className="tags">{worker.labels.map((label) => <span key={label} className="tag">{label}</span>)}</span>
              </td>
              <td className="num only-wide">{fixed(worker.cpu_percent, 0)} %</td>
              <td className="num only-wide">{memory(worker)}</td>
              <td className={`num ${worker.state === 'lost' ? 'warn' : 'muted'}`}>{ago(worker.last_seen_seconds)}</td>
              <td className="only-wide muted" title={versions(worker)}>{versions(worker)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const memory = (worker: WorkerInfo): string => bytes(worker.memory_mb == null ? null : worker.memory_mb * 1e6);
const versions = ({ versions: found }: WorkerInfo): string =>
  ['acamkd', 'torch', 'python'].flatMap((name) => (found[name] ? [`${name} ${found[name]}`] : [])).join(', ');

function Jobs({ worker }: { worker: WorkerInfo }) {
  if (worker.busy === 0) return <span className="muted">idle</span>;
  if (worker.jobs.length === 0) return <span className="muted">another project's job</span>;
  return worker.jobs.map((job) => (
    <Link key={job} className="link" to="/runs/$job" params={{ job }}>{job} </Link>
  ));
}

function State({ state }: { state: WorkerInfo['state'] }) {
  if (state === 'online') return <span className="state"><IconCircleCheck size={14} className="good" aria-hidden />online</span>;
  if (state === 'lost') return <span className="state warn"><IconAlertTriangle size={14} aria-hidden />lost</span>;
  return <span className="state muted"><IconPlayerStop size={14} aria-hidden />stopped</span>;
}
