import { withTheme } from '@rjsf/core';
import { Theme } from '@rjsf/mantine';
import type { ErrorSchema, ValidatorType } from '@rjsf/utils';
import { useMemo } from 'react';
import { errorTree } from './errors';
import { KindField, ListField, MappingField, ShortField, TermsField } from './fields';
import { ID, type SpecContext } from './form-context';
import { dereference, drawObject, type Node } from './form-schema';
import { CheckboxWidget, FieldTemplate, InputTemplate, ObjectFieldTemplate, SelectWidget, TextareaWidget } from './templates';
import type { Spec } from './yaml-spec';

const MantineForm = withTheme(Theme);

/**
 * Errors come from the server's dry run, which knows everything that the schema cannot say. Ajv is no choice here: it
 * compiles schemas with `new Function`, which the content security policy forbids.
 */
const validator: ValidatorType = {
  validateFormData: () => ({ errors: [], errorSchema: {} }),
  isValid: () => true,
  rawValidation: () => ({ errors: [] }),
};

const fields = { short: ShortField, terms: TermsField, list: ListField, mapping: MappingField, kind: KindField };
const templates = { FieldTemplate, ObjectFieldTemplate, BaseInputTemplate: InputTemplate };
const widgets = { SelectWidget, CheckboxWidget, TextareaWidget };

interface Props {
  schema: Node;
  data: Spec;
  context: SpecContext;
  disabled: boolean;
  onChange: (data: Spec) => void;
}

export function SpecForm({ schema, data, context, disabled, onChange }: Props) {
  const drawn = useMemo(() => drawObject(dereference(schema)), [schema]);
  const errors = useMemo(() => errorTree(context.problems) as ErrorSchema, [context.problems]);
  return (
    <MantineForm
      {...ID}
      tagName="div"
      className="spec-form"
      schema={drawn.schema}
      uiSchema={drawn.ui}
      formData={data}
      formContext={context}
      validator={validator}
      extraErrors={errors}
      fields={fields}
      templates={templates}
      widgets={widgets}
      disabled={disabled}
      showErrorList={false}
      noHtml5Validate
      // What is not given stays absent: the server fills it in, and says so.
      experimental_defaultFormStateBehavior={{
        emptyObjectFields: 'skipDefaults',
        constAsDefaults: 'never',
        arrayMinItems: { populate: 'never' },
      }}
      onChange={({ formData }) => onChange((formData ?? {}) as Spec)}
    >
      <></>
    </MantineForm>
  );
}
