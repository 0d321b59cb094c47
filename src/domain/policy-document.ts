/**
 * The IAM policy document as AWS writes it.
 * Key order matters: documents are compared and stored as JSON text.
 * Source: IAM User Guide, "IAM JSON policy element reference".
 */
export interface PolicyDocument {
  Version: '2012-10-17'
  Statement: Statement[]
}

export interface Statement {
  Sid?: string
  Effect: 'Allow' | 'Deny'
  Action: OneOrMany
  Resource?: OneOrMany
  NotResource?: OneOrMany
  Condition?: ConditionBlock
}

export type OneOrMany = string | string[]

/** operator -> condition key -> value(s): operators and keys are ANDed, the values of one key ORed. */
export type ConditionBlock = Record<string, Record<string, OneOrMany>>

export const many = (value: OneOrMany | undefined): string[] =>
  value === undefined ? [] : typeof value === 'string' ? [value] : value
