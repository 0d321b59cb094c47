/**
 * The IAM policy document as AWS writes it.
 * The order of keys matters: documents are compared and stored as JSON text.
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

/** Operator -> condition key -> value(s). All operators and keys must match; of a key, one value must match. */
export type ConditionBlock = Record<string, Record<string, OneOrMany>>
