/** The server's JSON schema as the form draws it: references resolved, one drawing rule a kind of field. */
import type { RJSFSchema, UiSchema } from '@rjsf/utils';

export type Node = Record<string, unknown>;

export interface Drawn {
  schema: RJSFSchema;
  ui: UiSchema;
}

/** Fields with a pick list, which also may be one string. */
export const SHORT = new Set(['dataset', 'teacher', 'student', 'arch', 'weights', 'backbone_weights']);

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && !Array.isArray(value);

/** A copy without `$ref`; what a field says of itself wins over what its type says. */
export function dereference(root: Node): Node {
  const defs = (root.$defs ?? {}) as Record<string, unknown>;
  const walk = (value: unknown, open: readonly string[]): unknown => {
    if (Array.isArray(value)) return value.map((item) => walk(item, open));
    if (!isNode(value)) return value;
    const { $ref, ...own } = value;
    if (typeof $ref !== 'string') {
      return Object.fromEntries(
        Object.entries(value).flatMap(([key, item]) => (key === '$defs' ? [] : [[key, walk(item, open)]])),
      );
    }
    const name = $ref.replace('#/$defs/', '');
    if (open.includes(name)) return own; // a type within itself is edited as YAML
    return { ...(walk(defs[name] ?? {}, [...open, name]) as Node), ...(walk(own, open) as Node) };
  };
  return walk(root, []) as Node;
}

/** The members of a tagged union by tag value, or null when the node is none. */
export function members(node: Node): { tag: string; options: Record<string, Node> } | null {
  const tag = (node.discriminator as Node | undefined)?.propertyName;
  if (typeof tag !== 'string' || !Array.isArray(node.oneOf)) return null;
  const options: Record<string, Node> = {};
  for (const option of node.oneOf as Node[]) {
    const name = ((option.properties as Record<string, Node>)[tag] ?? {}).const;
    if (typeof name === 'string') options[name] = option;
  }
  return { tag, options };
}

/** How a property is drawn. Fields that one's own components draw get an open schema, so that strings may stay. */
export function draw(name: string, node: Node): Drawn {
  const words: RJSFSchema = { title: label(name), description: node.description as string | undefined };
  if (members(node) || SHORT.has(name)) return { schema: words, ui: own('short', { name, node }) };
  if (node.type === 'object' && isNode(node.properties)) return drawObject(node, words);
  if (node.type === 'array') {
    const items = node.items as Node | undefined;
    if (isNode(items) && members(items)) return { schema: words, ui: own('terms', { name, node: items }) };
    return { schema: words, ui: own('list', { node }) };
  }
  if (isMapping(node)) return { schema: words, ui: own('mapping', { node }) };
  const { default: fallback, ...rest } = flat(node);
  const ui: UiSchema = { 'ui:options': { fallback: fallback as never } };
  if (node.readOnly || node.const !== undefined) ui['ui:widget'] = 'hidden';
  if (name === 'notes') ui['ui:widget'] = 'textarea';
  return { schema: { ...rest, ...words }, ui };
}

/** An object's properties; `without` leaves the union's tag to its own selector. */
export function drawObject(node: Node, words: RJSFSchema = {}, without?: string): Drawn {
  const properties: Record<string, RJSFSchema> = {};
  const ui: UiSchema = {};
  for (const [key, child] of Object.entries(node.properties as Record<string, Node>)) {
    if (key === without) continue;
    const drawn = draw(key, child);
    properties[key] = drawn.schema;
    ui[key] = drawn.ui;
  }
  const required = ((node.required ?? []) as string[]).filter((key) => key !== without);
  return { schema: { type: 'object', ...words, properties, required }, ui };
}

const own = (field: string, extra: Node): UiSchema => ({
  'ui:field': field,
  'ui:fieldReplacesAnyOrOneOf': true,
  'ui:options': extra as never,
});

/** Free names to values, or a word that stands for such a mapping: no fields that could be drawn one by one. */
const isMapping = (node: Node): boolean =>
  (node.type === 'object' && !isNode(node.properties)) ||
  (Array.isArray(node.anyOf) && (node.anyOf as Node[]).some((option) => option.type === 'object' && isMapping(option)));

/** `anyOf` of plain choices as one choice; with free text among them, as a text field that suggests the others. */
function flat(node: Node): Node {
  const options = node.anyOf as Node[] | undefined;
  if (!options) return node;
  const isChoice = (option: Node) => Array.isArray(option.enum) || option.const !== undefined;
  const free = options.filter((option) => !isChoice(option));
  if (free.length === options.length || !free.every((option) => option.type === 'string')) return node;
  const choices = options.filter(isChoice).flatMap((option) => (option.enum as unknown[] | undefined) ?? [option.const]);
  const rest = { ...without(node, 'anyOf'), type: options[0]!.type };
  if (free.length === 0) return { ...rest, enum: choices };
  return { ...rest, examples: [...choices, ...free.flatMap((option) => (option.examples as unknown[] | undefined) ?? [])] };
}

export const without = (node: Node, key: string): Node =>
  Object.fromEntries(Object.entries(node).filter(([name]) => name !== key));

const UPPER: Record<string, string> = { lr: 'LR', aspp: 'ASPP', ema: 'EMA', miou: 'mIoU', oom: 'OOM', gpus: 'GPUs', bn: 'BN', id: 'id' };

/** `warmup_iterations` as a reader writes it. */
export function label(name: string): string {
  const words = name.split('_').map((word) => UPPER[word] ?? word);
  const text = words.join(' ');
  return text[0]!.toUpperCase() + text.slice(1);
}
