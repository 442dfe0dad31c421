/** YAML text and form data of one spec. The text is the truth: the form changes only the lines that it must. */
import { Document, isMap, isScalar, parseDocument, Scalar, visit } from 'yaml';

export type Spec = Record<string, unknown>;
type Path = (string | number)[];

export interface Parsed {
  data: Spec | null;
  error: string | null;
}

/** Text to plain data, or the first mistake with its line. Duplicate keys are mistakes. */
export function parseSpec(text: string): Parsed {
  const doc = parseDocument(text, { merge: false });
  const mistake = doc.errors[0];
  if (mistake) return { data: null, error: mistake.message.split('\n')[0]!.replace(/:$/, '') };
  const data: unknown = doc.toJS();
  if (data === null || data === undefined) return { data: {}, error: null };
  if (typeof data !== 'object' || Array.isArray(data)) {
    return { data: null, error: 'a job is a mapping of fields (name: value)' };
  }
  return { data: data as Spec, error: null };
}

/** Lists that may be written as their only entry, as lists: the form has rows for them. */
const LISTS = ['distill', 'exports'];

export function asForm(data: Spec): Spec {
  const form = { ...data };
  for (const name of LISTS) {
    const item = form[name];
    if (item !== undefined && item !== null && !Array.isArray(item)) form[name] = [item];
  }
  return form;
}

/** Writes the difference between two states of the form into the text. Comments and other lines stay. */
export function applyForm(text: string, before: Spec, after: Spec): string {
  const changes = difference(before, after);
  if (changes.length === 0) return text;
  const doc: Document = parseDocument(text);
  if (!isMap(doc.contents)) doc.contents = doc.createNode({}) as never;
  for (const { path, value } of changes) write(doc, path, value, after);
  return doc.toString({ lineWidth: 110, flowCollectionPadding: false });
}

interface Change {
  path: Path;
  value: unknown;
}

/** The smallest set of replaced values. A list of another length is replaced as a whole. */
export function difference(before: unknown, after: unknown, path: Path = []): Change[] {
  if (same(before, after)) return [];
  if (plain(before) && plain(after)) {
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) =>
      difference(before[key], after[key], [...path, key]),
    );
  }
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length && after.some(plain)) {
    return after.flatMap((item, index) => difference(before[index], item, [...path, index]));
  }
  return [{ path, value: prune(after) }];
}

function write(doc: Document, path: Path, value: unknown, after: Spec): void {
  // `distill: acam` has no entry 0: what is below a short form is written by writing its list.
  for (let length = 1; length < path.length; length += 1) {
    const holder = doc.getIn(path.slice(0, length), true);
    if (holder === undefined || holder === null || isScalar(holder)) {
      const whole = prune(path.slice(0, length).reduce<unknown>((node, key) => (node as Spec)?.[key], after));
      return put(doc, path.slice(0, length), whole);
    }
    if (isMap(holder) && typeof path[length] === 'number') {
      const whole = prune(path.slice(0, length).reduce<unknown>((node, key) => (node as Spec)?.[key], after));
      return put(doc, path.slice(0, length), whole);
    }
  }
  put(doc, path, value);
}

function put(doc: Document, path: Path, value: unknown): void {
  if (value === undefined) {
    doc.deleteIn(path);
    const parent = path.slice(0, -1);
    const rest = parent.length ? doc.getIn(parent, true) : null;
    if (isMap(rest) && rest.items.length === 0) put(doc, parent, undefined);
    return;
  }
  const old = doc.getIn(path, true);
  if (isScalar(old) && (typeof value !== 'object' || value === null)) {
    old.value = value;
    delete old.source;
    old.type = doubtful(value) ? Scalar.QUOTE_DOUBLE : undefined;
    return;
  }
  const node = doc.createNode(value);
  visit(node, {
    Scalar: (_, scalar) => {
      if (doubtful(scalar.value)) scalar.type = Scalar.QUOTE_DOUBLE;
    },
    Seq: (_, seq) => {
      if (seq.items.every((item) => isScalar(item))) seq.flow = true;
    },
  });
  doc.setIn(path, node);
}

/** Text that the server's reader refuses without quotes: words and numbers that YAML readers disagree about. */
const DOUBTFUL = [/^(y|n|yes|no|on|off)$/i, /^[-+]?\d[\d_]*(:[\d_.]+)+$/, /^[-+]?\d+_[\d_]*$/, /^[-+]?0[xob]?[\da-f]+$/i];
const doubtful = (value: unknown): boolean => typeof value === 'string' && DOUBTFUL.some((form) => form.test(value));

const plain = (value: unknown): value is Spec => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Equal as specs: an absent key and an undefined one are the same. */
function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(prune(a)) === JSON.stringify(prune(b));
}

/** Without undefined entries, which forms leave behind when a field is emptied. */
export function prune(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(prune);
  if (!plain(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, prune(item)]),
  );
}
