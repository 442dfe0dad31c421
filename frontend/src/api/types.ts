import type { components } from './schema';

type Schemas = components['schemas'];
export type JobSummary = Schemas['JobSummary'];
export type JobDetail = Schemas['JobDetail'];
export type JobState = JobSummary['state'];
export type ProgressInfo = Schemas['ProgressInfo'];
export type AttemptInfo = Schemas['AttemptInfo'];
export type ArtifactInfo = Schemas['ArtifactInfo'];
export type PanelInfo = Schemas['PanelInfo'];
export type PanelIndex = Schemas['PanelIndex'];
export type Series = Schemas['Series'];
export type MetricsAnswer = Schemas['MetricsAnswer'];
export type LogPage = Schemas['LogPage'];
export type FieldOrigin = Schemas['FieldOrigin'];
export type CompareAnswer = Schemas['CompareAnswer'];
export type CompareJob = Schemas['CompareJob'];
export type ErrorInfo = Schemas['ErrorInfo'];

/** Contents of the free-form parts of a read model, as the worker's events define them. */
export interface EvaluationPayload {
  role: 'teacher' | 'student';
  split: string;
  iteration: number;
  metrics: Record<string, number>;
  per_class: Record<string, number | null>;
  seconds: number;
  is_best: boolean;
}
export interface AlarmPayload {
  time: number;
  iteration: number;
  severity: 'warning' | 'error';
  info: ErrorInfo;
}
export interface ProfilePayload {
  arch: string;
  parameters: number;
  macs: number | null; // null: a network that another runtime runs
  latency_ms: number;
  latency_conditions: string;
}
export interface FixPayload {
  label: string;
  set: Record<string, unknown>;
}
export interface LogLine {
  n: number;
  attempt: number;
  time: number | string;
  level: string;
  text: string;
}
export interface StreamEvent {
  job: string;
  name: string;
  seq: number;
  kind: string;
  data: Record<string, unknown>;
}
