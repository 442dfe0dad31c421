import { LossChart, ScoreChart } from './charts';
import { ClassTable } from './classes';
import { Figures } from './figures';
import { Lifecycle } from './lifecycle';
import { useRun } from './run-context';
import { Viewer } from './viewer';

export function OverviewTab() {
  const { job } = useRun();
  if (job.kind === 'inspect') return <Lifecycle />;
  return (
    <>
      <Lifecycle />
      <Figures />
      <div className="overview">
        <div className="charts">
          <ScoreChart height={208} />
          <LossChart height={176} />
        </div>
        <Viewer />
      </div>
      <ClassTable />
    </>
  );
}
