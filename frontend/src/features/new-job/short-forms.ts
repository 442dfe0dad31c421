/** Fields that may be one string: `dataset: scenes`, `teacher: job:x`, `student: preset`, `distill: [acam]`. */
import type { Spec } from './yaml-spec';

const SOURCES = ['job', 'model', 'torchvision', 'timm'] as const;

/** `job:x`, `model:x@alias`, `torchvision:Enum.NAME`, `timm:NAME.TAG` or a file, as the object form. */
function weights(text: string): Spec {
  const source = SOURCES.find((name) => text.startsWith(`${name}:`));
  return source ? { [source]: text.slice(source.length + 1) } : { file: text };
}

function isReference(text: string): boolean {
  return /[/:]/.test(text);
}

/** The object that a string stands for; `field` is the key that holds it, or the list that does. */
export function expand(field: string, text: string, tag?: string): Spec {
  switch (field) {
    case 'dataset':
      if (text === 'scenes') return { format: 'scenes' };
      if (text.startsWith('dataset:')) return { format: 'registered', name: text.slice(8) };
      return { format: 'auto', root: text };
    case 'teacher':
      return { weights: text };
    case 'student':
      return isReference(text) ? { weights: text } : { arch: text };
    case 'weights':
    case 'backbone_weights':
      return weights(text);
    default:
      return tag ? { [tag]: text } : {};
  }
}

/** The string for an object that says no more than the string would; null for any other. */
export function collapse(field: string, value: Spec, tag?: string): string | null {
  const keys = Object.keys(value).filter((key) => value[key] !== undefined);
  const only = (...names: string[]) => keys.length === names.length && names.every((name) => keys.includes(name));
  const text = (key: string): string | null => (typeof value[key] === 'string' ? (value[key] as string) : null);
  switch (field) {
    case 'dataset':
      if (only('format') && value.format === 'scenes') return 'scenes';
      if (only('format', 'name') && value.format === 'registered') return `dataset:${value.name}`;
      return only('format', 'root') && value.format === 'auto' ? text('root') : null;
    case 'teacher':
    case 'student': {
      if (field === 'student' && only('arch')) return text('arch');
      if (!only('weights')) return null;
      const inner = value.weights;
      return typeof inner === 'object' && inner !== null ? collapse('weights', inner as Spec) : text('weights');
    }
    case 'weights':
    case 'backbone_weights': {
      const source = SOURCES.find((name) => only(name));
      return source ? `${source}:${value[source]}` : only('file') ? text('file') : null;
    }
    default:
      return tag && only(tag) ? text(tag) : null;
  }
}
