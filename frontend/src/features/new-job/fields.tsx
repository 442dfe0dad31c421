/** Fields of one's own: short forms with a pick list, tagged unions, lists of terms, lists of plain values. */
import { Autocomplete, Button, Menu, Select, TextInput } from '@mantine/core';
import { toFieldPathId, type FieldProps } from '@rjsf/utils';
import { IconPlus, IconX } from '@tabler/icons-react';
import { useEffect, useState } from 'react';
import { parse, stringify } from 'yaml';
import { errorTree, flatten, type ErrorTree } from './errors';
import { pathOf, standsFor, type SpecContext } from './form-context';
import { drawObject, members, type Node } from './form-schema';
import { PLACEHOLDERS } from './picks';
import { collapse, expand } from './short-forms';
import type { Spec } from './yaml-spec';

interface Own {
  name: string;
  node: Node;
}
const options = (props: FieldProps): Own => props.uiSchema!['ui:options'] as unknown as Own;
const context = (props: FieldProps): SpecContext => props.registry.formContext as SpecContext;
const id = (props: FieldProps): string => props.fieldPathId.$id;
const isSpec = (value: unknown): value is Spec => typeof value === 'object' && value !== null && !Array.isArray(value);

/** One string with a pick list, or the whole object. */
export function ShortField(props: FieldProps) {
  const { name, node } = options(props);
  const { formData, onChange, fieldPathId } = props;
  const union = members(node);
  const set = (value: unknown) => onChange(value, fieldPathId.path);
  if (isSpec(formData)) {
    const short = collapse(name, formData, union?.tag);
    return (
      <div className="nested">
        <ObjectPart {...props} />
        {short !== null && (
          <button type="button" className="plain small" onClick={() => set(short)}>
            Write as <code className="mono">{short}</code>
          </button>
        )}
      </div>
    );
  }
  const text = typeof formData === 'string' ? formData : '';
  const errors = flatten(props.errorSchema as ErrorTree | undefined);
  return (
    <div className="with-button">
      <Autocomplete
        id={id(props)}
        className="grow"
        data={context(props).picks[name] ?? []}
        value={text}
        placeholder={PLACEHOLDERS[name]}
        error={errors.join('\n') || undefined}
        required={props.required}
        onChange={(next) => set(next === '' ? undefined : next)}
      />
      <Button onClick={() => set(text || !union ? expand(name, text || defaultText(name), union?.tag) : firstOf(node))}>
        Options
      </Button>
    </div>
  );
}

/** A string to start the object form from where the field is still empty. */
const defaultText = (name: string): string => (name === 'student' ? 'deeplabv3-mobilenet_v2-3.2m' : '');

const firstOf = (node: Node): Spec => {
  const union = members(node)!;
  return { [union.tag]: Object.keys(union.options)[0] };
};

/** An object, with a selector of its kind when it is a tagged union. */
function ObjectPart(props: FieldProps) {
  const { node } = options(props);
  const SchemaField = props.registry.fields.SchemaField!;
  const union = members(node);
  const data = props.formData as Spec;
  const kind = union ? String(data[union.tag] ?? '') : '';
  const option = union ? union.options[kind] : node;
  const drawn = option ? drawObject(option, {}, union?.tag) : null;
  const choose = (next: string | null) => {
    const known = next === null ? undefined : (union?.options[next]?.properties as Node | undefined);
    if (!union || !known) return;
    // What both kinds know stays.
    const kept = Object.fromEntries(Object.entries(data).filter(([key]) => key in known && key !== union.tag));
    props.onChange({ [union.tag]: next, ...kept }, props.fieldPathId.path);
  };
  const tagErrors = union ? flatten((props.errorSchema as ErrorTree | undefined)?.[union.tag] as ErrorTree) : [];
  return (
    <>
      {union && (
        <Select
          aria-label={`${props.schema.title ?? props.name} kind`}
          data={Object.keys(union.options)}
          value={kind || null}
          error={tagErrors.join('\n') || undefined}
          description={(option?.properties as Record<string, Node> | undefined)?.[union.tag]?.description as string}
          inputWrapperOrder={['input', 'description', 'error']}
          allowDeselect={false}
          onChange={choose}
        />
      )}
      {drawn && Object.keys(drawn.schema.properties ?? {}).length > 0 && (
        <SchemaField key={kind} {...props} schema={drawn.schema} uiSchema={drawn.ui} name={props.name} required={false} />
      )}
    </>
  );
}

/** A list of tagged unions, each of which may be one word. */
export function TermsField(props: FieldProps) {
  const { name, node } = options(props);
  const SchemaField = props.registry.fields.SchemaField!;
  const union = members(node)!;
  const items = Array.isArray(props.formData) ? (props.formData as unknown[]) : [];
  const set = (next: unknown[] | undefined) => props.onChange(next, props.fieldPathId.path);
  const errors = props.errorSchema as ErrorTree | undefined;
  return (
    <div className="terms" id={id(props)}>
      {items.map((item, index) => {
        const at = toFieldPathId(index, props.registry.globalFormOptions, props.fieldPathId);
        const data = typeof item === 'string' ? expand(name, item, union.tag) : (item as Spec);
        return (
          <div key={index} className="term">
            <SchemaField
              {...props}
              name={`${name} ${index + 1}`}
              schema={{ title: String(data?.[union.tag] ?? '') }}
              uiSchema={{ 'ui:field': 'kind', 'ui:fieldReplacesAnyOrOneOf': true, 'ui:options': { name, node } as never }}
              fieldPathId={at}
              formData={data}
              errorSchema={(errors?.[index] ?? {}) as never}
              required={false}
            />
            <button
              type="button"
              className="plain"
              aria-label={`Remove ${String(data?.[union.tag] ?? name)}`}
              onClick={() => set(items.length === 1 && name !== 'exports' ? undefined : items.filter((_, i) => i !== index))}
            >
              <IconX size={14} />
            </button>
          </div>
        );
      })}
      {props.formData === undefined && (
        <span className="muted small">{standsFor(context(props), id(props), undefined).replace(/^\[\]$/, 'none') || (name === 'exports' ? 'default: safetensors, onnx' : 'none')}</span>
      )}
      {errors?.__errors?.map((text) => <span key={text} className="bad small">{text}</span>)}
      <Menu position="bottom-start">
        <Menu.Target>
          <Button leftSection={<IconPlus size={13} />}>Add</Button>
        </Menu.Target>
        <Menu.Dropdown>
          {Object.keys(union.options).map((kind) => (
            <Menu.Item key={kind} onClick={() => set([...items, { [union.tag]: kind }])}>
              {kind}
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}

/** One entry of a list of terms. */
export function KindField(props: FieldProps) {
  return (
    <div className="nested grow">
      <ObjectPart {...props} />
    </div>
  );
}

/** Plain values as one line: `12, 24, 36`. */
export const ListField = (props: FieldProps) => (
  <LineField
    {...props}
    words={{ show: listText, read: parseList, tidy: (text) => text.replace(/[[\]"]/g, '').replaceAll(',', ', ') }}
  />
);

/** Names to values as one line of YAML: `{stem: c2}`, or a word that stands for them. */
export const MappingField = (props: FieldProps) => (
  <LineField {...props} words={{ show: mappingText, read: parseMapping, tidy: (text) => text.replaceAll('"', '') }} />
);

interface Words {
  show: (value: unknown) => string;
  read: (text: string) => unknown;
  tidy: (fallback: string) => string;
}

/** A value in one line of text. Kept as typed until it is left, because a half-typed list is no list. */
function LineField({ words, ...props }: FieldProps & { words: Words }) {
  const { node } = options(props);
  const shown = words.show(props.formData);
  const [text, setText] = useState(shown);
  useEffect(() => setText(shown), [shown]);
  const errors = flatten(errorsOf(props));
  return (
    <TextInput
      id={id(props)}
      value={text}
      placeholder={words.tidy(standsFor(context(props), id(props), node.default))}
      error={errors.join('\n') || undefined}
      onChange={(event) => setText(event.currentTarget.value)}
      onBlur={() => text !== shown && props.onChange(words.read(text), props.fieldPathId.path)}
      onKeyDown={(event) => event.key === 'Enter' && event.currentTarget.blur()}
    />
  );
}

const errorsOf = (props: FieldProps): ErrorTree =>
  (props.errorSchema as ErrorTree | undefined) ??
  errorTree(context(props).problems.filter(({ field }) => field === pathOf(id(props))));

export function listText(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (!Array.isArray(value)) return String(value);
  return value.map((item) => (Array.isArray(item) ? stringify(item, { collectionStyle: 'flow' }).trim() : String(item))).join(', ');
}

export function parseList(text: string): unknown[] | string | undefined {
  if (text.trim() === '') return undefined;
  try {
    return parse(`[${text}]`) as unknown[];
  } catch {
    return text;
  }
}

export const mappingText = (value: unknown): string =>
  isSpec(value) ? stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trim() : listText(value);

/** What a line of YAML says, with or without its braces; a line that says nothing yet stays text. */
export function parseMapping(text: string): unknown {
  const line = text.trim();
  if (line === '') return undefined;
  try {
    return parse(line.includes(':') && !line.startsWith('{') ? `{${line}}` : line) as unknown;
  } catch {
    return text;
  }
}
