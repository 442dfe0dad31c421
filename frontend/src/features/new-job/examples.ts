import type { JobSummary } from '@/api/types';
import { primaryMetric } from '@/lib/metric';

/** Specs to start from. They are submitted as they stand; the missions' need the data and weights that they name. */
export interface Example {
  id: string;
  label: string;
  text: string;
}

const scenes = `# procedural street scenes, made on the spot
dataset: scenes
`;

export const EXAMPLES: Example[] = [
  {
    id: 'scenes-teacher',
    label: 'Scenes: a teacher',
    text: `${scenes}# no teacher: it is trained alone, and may teach others
student: {arch: {family: deeplabv3, backbone: resnet18}}
schedule: {epochs: 10}
seed: 0
`,
  },
  {
    id: 'scenes-acam',
    label: 'Scenes: distil it',
    text: `${scenes}# a finished run, or model:name@alias
teacher: job:NAME
student:
  arch: {family: deeplabv3, backbone: mobilenet_v2, width: 0.35, aspp_channels: 64}
distill: acam
schedule: {epochs: 10}
seed: 0
`,
  },
  {
    id: 'cityscapes-acam',
    label: 'Cityscapes: DeepLabV3-R101 to MobileNetV2',
    text: `dataset: {format: cityscapes, root: datasets/cityscapes}
augment: {scale: [0.5, 2.0], crop: [512, 1024], flip: 0.5}
teacher:
  arch: deeplabv3-resnet101-61.1m
  weights: {file: deeplabv3_resnet101_citys_best_model.pth, layout: cirkd}
  preprocess: {order: bgr, range: 255, mean: [104.007, 116.669, 122.679], std: [1, 1, 1]}
  expect: {miou: 78.07, tolerance: 0.3}   # re-scored before training; outside = stop
student: {arch: deeplabv3-mobilenet_v2-3.2m, backbone_weights: "torchvision:MobileNet_V2_Weights.IMAGENET1K_V1"}
distill: [{method: acam, at: [logits], masks: 19}]
task_loss: {aux_weight: 0}
optimizer: {name: sgd, lr: 0.02, momentum: 0.9, weight_decay: 5.0e-4}
schedule: {iterations: 40000, policy: poly, power: 0.9}
batch: {global_size: 16}
train: {precision: bf16}
evaluation: {every: 2000}
checkpoint: {select: last}
resources: {gpus: 1, max_hours: 24}
seed: 0
reference: {miou: 76.21, source: "arXiv 2503.06307", status: not_reproduced}
`,
  },
];

/** A teacher makes the second example work as it stands. */
const fillTeacher = (text: string, teacher: string | undefined): string =>
  teacher ? text.replace('job:NAME', `job:${teacher}`) : text;

/** The finished run that does best on scenes: a teacher for the example. */
export const bestTeacher = (jobs: readonly JobSummary[]): string | undefined =>
  jobs
    .filter((job) => job.kind === 'distill' && job.state === 'succeeded' && /^scenes(@|$)/.test(job.dataset ?? ''))
    .sort((a, b) => scoreOf(b) - scoreOf(a) || b.created_at.localeCompare(a.created_at))[0]?.name;

const scoreOf = (job: JobSummary): number => job.metrics[`best/${primaryMetric(job.task).key}`] ?? 0;

/** An example, ready to submit. Without one named: to distil, once there is a teacher; to train one, before that. */
export function exampleText(id: string | undefined, jobs: readonly JobSummary[]): string {
  const teacher = bestTeacher(jobs);
  const wanted = id ?? (teacher ? 'scenes-acam' : 'scenes-teacher');
  return fillTeacher((EXAMPLES.find((example) => example.id === wanted) ?? EXAMPLES[0]!).text, teacher);
}
