import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import tseslint from 'typescript-eslint';

// Imports go one way: lib <- api <- components <- features <- app; a feature knows no other feature.
const oneWay = (files, forbidden) => ({
  files: files.map((folder) => `src/${folder}/**/*.{ts,tsx}`),
  rules: { 'no-restricted-imports': ['error', { patterns: forbidden.map((name) => `@/${name}/**`) }] },
});
const features = ['runs', 'run', 'compare', 'new-job', 'datasets', 'models', 'workers', 'catalog'];

export default tseslint.config(
  { ignores: ['dist', 'src/api/schema.d.ts'] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    files: ['src/**/*.{ts,tsx}'],
    plugins: { 'react-hooks': hooks },
    rules: {
      'react-hooks/rules-of-hooks': 'error',
      'react-hooks/exhaustive-deps': 'error',
      'max-lines': ['error', { max: 260, skipBlankLines: true, skipComments: true }],
    },
  },
  oneWay(['lib'], ['api', 'components', 'features', 'app']),
  oneWay(['api'], ['components', 'features', 'app']),
  oneWay(['components'], ['features', 'app']),
  ...features.map((own) =>
    oneWay([`features/${own}`], ['app', ...features.filter((name) => name !== own).map((name) => `features/${name}`)]),
  ),
);
