import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

const sdk = {
  group: ['@aws-sdk/*', '@smithy/*'],
  message: 'Only src/iam/client.ts speaks to the SDK.'
}

export default [
  ...neostandard({ ts: true, ignores: [...resolveIgnoresFromGitignore(), 'tap-snapshots'] }),
  {
    files: ['src/**/*.ts'],
    ignores: ['src/iam/client.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: [sdk] }] }
  }
]
