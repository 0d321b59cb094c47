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
  indent: ['error', 2, { SwitchCase: 1, flatTernaryExpressions: false, ignoredNodes: ['TemplateLiteral *'], offsetTernaryExpressions: { CallExpression: false } }],
  'key-spacing': 'error',
  'keyword-spacing': 'error',
  'lines-between-class-members': ['error', 'always', { exceptAfterSingleLine: true }],
  'multiline-ternary': ['error', 'always-multiline'],
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
  '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafePromises: [{ from: 'package', name: 'PromiseWithSubtest', package: '@tapjs/core' }] }],
  '@typescript-eslint/no-misused-promises': 'error',
  '@typescript-eslint/no-unnecessary-type-assertion': 'error',
  '@typescript-eslint/only-throw-error': 'error',
  'no-throw-literal': 'off',
  '@typescript-eslint/return-await': ['error', 'in-try-catch'],
  '@typescript-eslint/switch-exhaustiveness-check': 'error'
}

const sdk = {
  group: ['@aws-sdk/*', '@smithy/*'],
  message: 'Only src/iam/client.ts speaks to the SDK.'
}

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
    files: ['src/**/*.ts'],
    ignores: ['src/iam/client.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: [sdk] }] }
  }
)
