/** How the form looks: a label, one line of help, the essentials first, the rest folded away. */
import { Select, Switch } from '@mantine/core';
import { Templates, Widgets } from '@rjsf/mantine';
import type {
  BaseInputTemplateProps, FieldTemplateProps, ObjectFieldTemplateProps, WidgetProps,
} from '@rjsf/utils';
import { useState, type ReactNode } from 'react';
import { countBelow } from './errors';
import { SHORT, without } from './form-schema';
import { pathOf, standsFor, type SpecContext } from './form-context';

const ESSENTIALS = ['dataset', 'teacher', 'student', 'distill', 'seed', 'name'];
const MantineInput = Templates.BaseInputTemplate!;
const MantineTextarea = Widgets.TextareaWidget!;
const context = (registry: { formContext?: unknown }): SpecContext => registry.formContext as SpecContext;
const fallbackOf = (options: object): unknown => (options as { fallback?: unknown }).fallback;

export function InputTemplate({ options, ...props }: BaseInputTemplateProps) {
  const placeholder = standsFor(context(props.registry), props.id, fallbackOf(options));
  return <MantineInput {...props} options={without(options, 'fallback') as never} placeholder={placeholder} hideLabel />;
}

export function SelectWidget(props: WidgetProps) {
  const choices = (props.options.enumOptions ?? []).map(({ value }) => value as unknown);
  return (
    <Select
      id={props.id}
      data={choices.map(String)}
      value={props.value === undefined ? null : String(props.value)}
      placeholder={standsFor(context(props.registry), props.id, fallbackOf(props.options))}
      error={props.rawErrors?.join('\n') || undefined}
      clearable
      onChange={(next) => props.onChange(choices.find((choice) => String(choice) === next))}
    />
  );
}

/** A switch that, untouched, stands where the default is. */
export function CheckboxWidget(props: WidgetProps) {
  const resolved = standsFor(context(props.registry), props.id, fallbackOf(props.options)) === 'true';
  const on = props.value === undefined ? resolved : Boolean(props.value);
  return (
    <Switch
      id={props.id}
      size="xs"
      checked={on}
      label={props.value === undefined ? <span className="muted">{on ? 'on' : 'off'} (default)</span> : on ? 'on' : 'off'}
      error={props.rawErrors?.join('\n') || undefined}
      onChange={(event) => props.onChange(event.currentTarget.checked)}
    />
  );
}

export function TextareaWidget(props: WidgetProps) {
  return <MantineTextarea {...props} options={{ rows: 2 }} hideLabel />;
}

export function FieldTemplate(props: FieldTemplateProps) {
  const { id, label, rawDescription, children, hidden, schema, formData, required } = props;
  if (hidden) return null;
  // Objects bring their own heading; an entry of a list has its kind as its heading.
  if (schema.type === 'object' || props.uiSchema?.['ui:field'] === 'kind') return <>{children}</>;
  const wide = typeof formData === 'object' && ['short', 'terms'].includes(String(props.uiSchema?.['ui:field']));
  return (
    <div className={`spec-field ${formData === undefined ? '' : 'given'} ${wide ? 'wide-field' : ''}`} data-path={pathOf(id)}>
      <label htmlFor={id}>
        {label}
        {required && <span className="bad" aria-label="required"> *</span>}
      </label>
      <div className="control">
        {children}
        {rawDescription && !wide && <small><Help text={rawDescription} /></small>}
      </div>
    </div>
  );
}

/** Help texts mark code with backticks. */
function Help({ text }: { text: string }) {
  return text.split('`').map((part, index) => (index % 2 ? <code key={index} className="mono">{part}</code> : part));
}

export function ObjectFieldTemplate(props: ObjectFieldTemplateProps) {
  const { properties, schema, formData, fieldPathId, registry } = props;
  const problems = context(registry).problems;
  const isObject = (name: string) => (schema.properties?.[name] as { type?: string } | undefined)?.type === 'object';
  const root = fieldPathId.path.length === 0;
  const shown = properties.filter(({ hidden }) => !hidden);
  const data = (formData ?? {}) as Record<string, unknown>;
  // In a section all is shown; in a network or a term only what was given when it opened, and never moved after that.
  const section = fieldPathId.path.length === 1 && !SHORT.has(String(fieldPathId.path[0]));
  const [opened] = useState(() => Object.keys(data).filter((name) => data[name] !== undefined));
  const required = (schema.required ?? []) as string[];
  const first = root
    ? ESSENTIALS.flatMap((name) => shown.filter((property) => property.name === name))
    : shown.filter(({ name }) => !isObject(name) && (section || opened.includes(name) || required.includes(name)));
  const folded = shown.filter(({ name }) => !first.some((property) => property.name === name));
  const sections = folded.filter(({ name }) => isObject(name));
  const loose = folded.filter(({ name }) => !isObject(name));
  const at = (name: string) => [...fieldPathId.path, name].join('.');
  return (
    <div className={root ? 'spec-root' : 'spec-object'}>
      {first.map(({ name, content }) => <div key={name}>{content}</div>)}
      {sections.map(({ name, content }) => {
        const own = schema.properties![name] as { title?: string; description?: string };
        return (
          <Section
            key={name}
            title={own.title ?? name}
            help={own.description}
            given={countGiven(data[name])}
            wrong={countBelow(problems, at(name))}
          >
            {content}
          </Section>
        );
      })}
      {loose.length > 0 && (
        <Section
          title={root ? 'Other' : `${loose.length} more options`}
          help={loose.map(({ name }) => name.replaceAll('_', ' ')).join(', ')}
          given={loose.reduce((sum, { name }) => sum + countGiven(data[name]), 0)}
          wrong={loose.reduce((sum, { name }) => sum + countBelow(problems, at(name)), 0)}
        >
          {loose.map(({ name, content }) => <div key={name}>{content}</div>)}
        </Section>
      )}
    </div>
  );
}

const countGiven = (value: unknown): number => {
  if (value === undefined || value === null) return 0;
  if (typeof value === 'object' && !Array.isArray(value)) {
    return Object.values(value).reduce<number>((sum, item) => sum + countGiven(item), 0);
  }
  return 1;
};

interface SectionProps {
  title: string;
  help?: string;
  given: number;
  wrong: number;
  children: ReactNode;
}

/** Folded unless something in it is wrong: an error must not hide. */
function Section({ title, help, given, wrong, children }: SectionProps) {
  return (
    <details className="section" open={wrong > 0 || undefined}>
      <summary>
        <b>{title}</b>
        <span className="muted clip">{help}</span>
        <span className="grow" />
        {wrong > 0 && <span className="bad">{wrong} wrong</span>}
        {given > 0 && <span className="tabular">{given} given</span>}
      </summary>
      <div className="inside">{children}</div>
    </details>
  );
}
