import { readdirSync } from 'node:fs'
import { join, posix } from 'node:path'
import js from '@eslint/js'
import stylistic from '@stylistic/eslint-plugin'
import globals from 'globals'
import tseslint from 'typescript-eslint'

// The rules of neostandard, which are those of JavaScript Standard Style, without its plugins for React and CommonJS.
const standard = {
  'accessor-pairs': 'error',
  'array-callback-return': ['error', { checkForEach: false }],
  camelcase: ['error', { ignoreGlobals: true, properties: 'never' }],
  curly: ['error', 'multi-line'],
  'default-case-last': 'error',
  eqeqeq: ['error', 'always', { null: 'ignore' }],
  'new-cap': ['error', { capIsNew: false }],
  'no-caller': 'error',
  'no-constant-condition': ['error', { checkLoops: false }],
  'no-empty': ['error', { allowEmptyCatch: true }],
  'no-eval': 'error',
  'no-extend-native': 'error',
  'no-extra-bind': 'error',
  'no-implied-eval': 'error',
  'no-iterator': 'error',
  'no-labels': 'error',
  'no-lone-blocks': 'error',
  'no-multi-str': 'error',
  'no-new': 'error',
  'no-new-func': 'error',
  'no-new-wrappers': 'error',
  'no-object-constructor': 'error',
  'no-octal-escape': 'error',
  'no-proto': 'error',
  'no-return-assign': 'error',
  'no-self-compare': 'error',
  'no-sequences': 'error',
  'no-template-curly-in-string': 'error',
  'no-throw-literal': 'error',
  'no-undef-init': 'error',
  'no-unmodified-loop-condition': 'error',
  'no-unneeded-ternary': ['error', { defaultAssignment: false }],
  'no-unreachable-loop': 'error',
  'no-useless-call': 'error',
  'no-useless-computed-key': 'error',
  'no-useless-rename': 'error',
  'no-useless-return': 'error',
  'no-var': 'error',
  'no-void': ['error', { allowAsStatement: true }],
  'object-shorthand': ['error', 'properties'],
  'one-var': ['error', { initialized: 'never' }],
  'prefer-const': ['error', { destructuring: 'all' }],
  'prefer-promise-reject-errors': 'error',
  'prefer-regex-literals': ['error', { disallowRedundantWrapping: true }],
  'symbol-description': 'error',
  'unicode-bom': 'error',
  'use-isnan': ['error', { enforceForIndexOf: true }],
  'valid-typeof': ['error', { requireStringLiterals: true }],
  yoda: 'error',
  '@typescript-eslint/no-array-constructor': 'error',
  '@typescript-eslint/no-redeclare': ['error', { builtinGlobals: false }],
  '@typescript-eslint/no-unused-expressions': ['error', { allowShortCircuit: true, allowTaggedTemplates: true, allowTernary: true }],
  '@typescript-eslint/no-unused-vars': ['error', { args: 'none', caughtErrors: 'none', ignoreRestSiblings: true }],
  '@typescript-eslint/no-use-before-define': ['error', { functions: false, classes: false, variables: false }],
  '@typescript-eslint/no-useless-constructor': 'error',
  // In favour of those of typescript-eslint.
  'no-array-constructor': 'off',
  'no-redeclare': 'off',
  'no-unused-vars': 'off'
}

const style = {
  'array-bracket-spacing': 'error',
  'arrow-spacing': 'error',
  'block-spacing': 'error',
  'brace-style': ['error', '1tbs', { allowSingleLine: true }],
  'comma-dangle': 'error',
  'comma-spacing': 'error',
  'comma-style': 'error',
  'computed-property-spacing': 'error',
  'dot-location': ['error', 'property'],
  'eol-last': 'error',
  'function-call-spacing': 'error',
  'generator-star-spacing': ['error', 'both'],
  indent: ['error', 2, {
    SwitchCase: 1,
    flatTernaryExpressions: false,
    ignoredNodes: ['TemplateLiteral *'],
    offsetTernaryExpressions: { CallExpression: false }
  }],
  'key-spacing': 'error',
  'keyword-spacing': 'error',
  'lines-between-class-members': ['error', 'always', { exceptAfterSingleLine: true }],
  'multiline-ternary': ['error', 'always-multiline'],
  'max-len': ['error', { code: 140, ignoreUrls: true, ignoreRegExpLiterals: true }],
  'new-parens': 'error',
  'no-extra-parens': ['error', 'functions'],
  'no-floating-decimal': 'error',
  'no-mixed-operators': ['error', {
    groups: [['==', '!=', '===', '!==', '>', '>=', '<', '<='], ['&&', '||'], ['in', 'instanceof']],
    allowSamePrecedence: true
  }],
  'no-mixed-spaces-and-tabs': 'error',
  'no-multi-spaces': ['error', { ignoreEOLComments: true }],
  'no-multiple-empty-lines': ['error', { max: 1, maxBOF: 0, maxEOF: 0 }],
  'no-tabs': 'error',
  'no-trailing-spaces': 'error',
  'no-whitespace-before-property': 'error',
  'object-curly-newline': ['error', { multiline: true, consistent: true }],
  'object-curly-spacing': ['error', 'always'],
  'object-property-newline': ['error', { allowAllPropertiesOnSameLine: true }],
  'operator-linebreak': ['error', 'after', { overrides: { '?': 'before', ':': 'before', '|': 'ignore', '&': 'ignore' } }],
  'padded-blocks': ['error', 'never'],
  'quote-props': ['error', 'as-needed'],
  quotes: ['error', 'single', { avoidEscape: true }],
  'rest-spread-spacing': 'error',
  semi: ['error', 'never'],
  'semi-spacing': 'error',
  'space-before-blocks': 'error',
  'space-before-function-paren': 'error',
  'space-in-parens': 'error',
  'space-infix-ops': 'error',
  'space-unary-ops': 'error',
  'spaced-comment': ['error', 'always', { block: { balanced: true, exceptions: ['*'] } }],
  'template-curly-spacing': 'error',
  'template-tag-spacing': 'error',
  'wrap-iife': ['error', 'any', { functionPrototypeMethods: true }],
  'yield-star-spacing': ['error', 'both']
}

// Rules that need the types.
const typed = {
  '@typescript-eslint/await-thenable': 'error',
  // tap waits for every subtest of its own.
  '@typescript-eslint/no-floating-promises': ['error', {
    allowForKnownSafePromises: [{ from: 'package', name: 'PromiseWithSubtest', package: '@tapjs/core' }]
  }],
  '@typescript-eslint/no-misused-promises': 'error',
  '@typescript-eslint/no-unnecessary-type-assertion': 'error',
  '@typescript-eslint/only-throw-error': 'error',
  'no-throw-literal': 'off',
  '@typescript-eslint/return-await': ['error', 'in-try-catch'],
  '@typescript-eslint/switch-exhaustiveness-check': 'error'
}

const sdk = {
  group: ['@aws-sdk/*', '@smithy/*'],
  message: 'Only src/iam/client.ts and src/doctor/store.ts speak to the SDK.'
}

/**
 * The folders of src, and its files outside of a folder: what each imports of the others (`types`: with `import type` alone), and where
 * code belongs that would need more. test/layers.test.ts holds that this is so, and that no imports make a circle.
 */
export const layers = {
  domain: { belongs: 'The domain is what all the others share. What needs one of them belongs there.' },
  'policy/prove': {
    types: ['domain'],
    belongs: 'The prover shares no code with what it checks, or both could have the same mistake. It takes types of the domain alone.'
  },
  policy: {
    imports: ['problems.ts'],
    types: ['domain', 'request.ts'],
    belongs: 'A policy is rendered from the request alone. Who may have it belongs to guardrails, how IAM gets it to iam.'
  },
  guardrails: {
    imports: ['policy', 'request.ts'],
    types: ['domain', 'problems.ts'],
    belongs: 'Guardrails only decide. What follows from a decision belongs to lifecycle.'
  },
  ledger: { imports: ['domain'], belongs: 'The ledger only stores grants. What decides on their state belongs to lifecycle.' },
  iam: {
    imports: ['policy'],
    types: ['domain', 'policy/prove'],
    belongs: 'IAM calls know nothing of the ledger or of HTTP. What combines them belongs to lifecycle.'
  },
  doctor: {
    imports: ['iam', 'policy'],
    types: ['domain'],
    belongs: 'The doctor asks a store and says what it found. What the service does with a store belongs to iam.'
  },
  identity: {
    imports: ['config-file.ts', 'problems.ts', 'secure-url.ts'],
    belongs: 'Identity says who calls. What the caller may do belongs to guardrails, the answer to http.'
  },
  lifecycle: {
    imports: ['guardrails', 'iam', 'ledger', 'policy', 'policy/prove', 'problems.ts'],
    types: ['domain', 'identity', 'request.ts'],
    belongs: 'The lifecycle knows no HTTP, audit log or metrics. What it calls of them it declares in lifecycle/deps.ts.'
  },
  audit: {
    imports: ['config-file.ts'],
    types: ['domain', 'lifecycle', 'problems.ts'],
    belongs: 'The audit log records what others tell it. What acts on grants belongs to lifecycle.'
  },
  metrics: {
    imports: ['domain', 'ledger', 'problems.ts'],
    types: ['audit', 'iam', 'lifecycle'],
    belongs: 'Metrics count what others do and change nothing. What acts on grants belongs to lifecycle.'
  },
  http: {
    imports: ['audit', 'client-address.ts', 'iam', 'ledger', 'lifecycle', 'policy', 'policy/prove', 'problems.ts', 'request.ts'],
    types: ['domain', 'identity', 'metrics'],
    belongs: 'Routes answer requests. What creates the parts of the service belongs to compose.ts, what an operator runs to commands.'
  },
  console: {
    types: ['client', 'policy/prove'],
    belongs: 'The console runs in a browser and calls the API. From src it takes types alone.'
  },
  client: { imports: ['secure-url.ts'], belongs: 'The client is a package of its own. It imports nothing of the service.' },
  cli: { imports: ['client'], belongs: 'The CLI calls the service through the client. What works inside the service belongs to commands.' },
  commands: {
    imports: [
      'audit', 'cli', 'compose.ts', 'config.ts', 'doctor', 'guardrails', 'iam', 'identity', 'lifecycle', 'log.ts', 'policy', 'problems.ts',
      'request.ts'
    ],
    belongs: 'Operator commands work without HTTP, on the parts that do the work. What answers requests belongs to http.'
  },
  'embedded-iam': { belongs: 'The embedded IAM stands for a provider. It shares no code with the service that calls it.' },
  'compose.ts': {
    imports: ['audit', 'config-file.ts', 'config.ts', 'embedded-iam', 'guardrails', 'http', 'iam', 'identity', 'ledger', 'lifecycle'],
    types: ['metrics'],
    belongs: 'compose.ts creates the parts of the service. What listens or exits belongs to server.ts.'
  },
  processes: {
    imports: ['audit', 'embedded-iam', 'identity', 'log.ts', 'metrics', 'welcome.ts'],
    types: ['compose.ts', 'config.ts'],
    belongs: 'Processes are started, told and measured here. What one of them does belongs to server.ts and compose.ts.'
  },
  'start.ts': {
    imports: ['config.ts', 'processes', 'server.ts'],
    belongs: 'start.ts decides which process this is, and loads no more than that one needs.'
  },
  'server.ts': {
    imports: ['audit', 'compose.ts', 'config.ts', 'http', 'lifecycle', 'log.ts', 'metrics', 'processes', 'welcome.ts'],
    belongs: 'server.ts starts and stops the process. What creates the parts of the service belongs to compose.ts.'
  },
  'config.ts': {
    imports: ['config-file.ts', 'iam', 'policy'],
    belongs: 'config.ts reads the environment. What acts on a setting belongs where it is used.'
  },
  'welcome.ts': { imports: ['request.ts'], belongs: 'welcome.ts only words what the start prints.' },
  'client-address.ts': { belongs: 'client-address.ts reads the address of a request. What it is for belongs to the caller.' },
  'config-file.ts': { belongs: 'config-file.ts reads any configuration file. What one of them means belongs where it is used.' },
  'log.ts': { imports: ['client-address.ts'], belongs: 'log.ts only creates the logger. What it logs belongs to the caller.' },
  'problems.ts': { belongs: 'problems.ts only lists the errors of the API. What finds them belongs to the folder that checks.' },
  'request.ts': { belongs: 'request.ts only describes what a caller sends. What a request leads to belongs to policy.' },
  'secure-url.ts': { belongs: 'secure-url.ts checks one URL. What the URL is for belongs to the caller.' }
}

/** What a file of the layer `name` that lies directly in `folder` of src must not import. */
const forbidden = (name, folder) => {
  const { imports = [], types = [], belongs: message } = layers[name]
  const literal = path => (path.startsWith('.') ? path : `./${path}`).replaceAll('.', '\\.')
  const within = other => {
    const layersInIt = Object.keys(layers).filter(layer => layer.startsWith(`${other}/`)).map(layer => posix.relative(other, layer))
    const elsewhere = ['..', ...layersInIt].map(path => `${path.replaceAll('.', '\\.')}/`).join('|')
    return literal(posix.relative(folder, other)) + (other.endsWith('.ts') ? '$' : `/(?!${elsewhere})`)
  }
  const others = Object.keys(layers).filter(other => other !== name && ![...imports, ...types].includes(other))
  return [
    { regex: `^(${others.map(within).join('|')})`, message },
    ...(types.length > 0 ? [{ regex: `^(${types.map(within).join('|')})`, allowTypeImports: true, message }] : []),
    {
      regex: `^${literal(posix.relative(folder, '..'))}/`,
      message: 'The service imports nothing from outside of src. What it needs belongs to src.'
    }
  ]
}

const layerRule = (name, folder) => ({
  files: [name.endsWith('.ts') ? `src/${name}` : `src/${folder}/*.ts`],
  rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns: forbidden(name, folder) }] }
})

const folders = readdirSync(join(import.meta.dirname, 'src'), { recursive: true }).filter(path => !path.includes('.'))

export const layerRules = Object.keys(layers).flatMap(name => name.endsWith('.ts')
  ? layerRule(name, '')
  : folders
    .filter(folder => folder === name || (folder.startsWith(`${name}/`) && !(folder in layers)))
    .map(folder => layerRule(name, folder)))

export default tseslint.config(
  { ignores: ['**/node_modules/', '**/dist/', '.tap/', '.work/'] },
  js.configs.recommended,
  {
    plugins: { '@stylistic': stylistic, '@typescript-eslint': tseslint.plugin },
    languageOptions: { parser: tseslint.parser, globals: globals.node },
    rules: { ...standard, ...Object.fromEntries(Object.entries(style).map(([name, rule]) => [`@stylistic/${name}`, rule])) }
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.eslintRecommended],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: typed
  },
  {
    // Their own packages may not be installed. Then all that comes from these is `any`, to which no assertion is needed.
    files: ['bench/http/**', 'client/generate/**', 'test/real/browser/**'],
    rules: { '@typescript-eslint/no-unnecessary-type-assertion': 'off' }
  },
  {
    // Their texts are one a line, as they are read: problems in a table, expected answers beside what was asked.
    files: ['src/problems.ts', 'openapi/*.ts', 'test/**/*.ts'],
    rules: {
      '@stylistic/max-len': ['error', {
        code: 140, ignoreUrls: true, ignoreRegExpLiterals: true, ignoreStrings: true, ignoreTemplateLiterals: true
      }]
    }
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/iam/client.ts', 'src/doctor/store.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: [sdk] }] }
  },
  ...layerRules
)
