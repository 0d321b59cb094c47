import { compileArn, compileLiteral, compileWildcards } from '../wildcard.ts'
import { negative, positive, type Operator } from './comparison.ts'

/** Source: IAM User Guide, "IAM JSON policy elements: Condition operators". ArnEquals and ArnLike behave alike there. */
export const stringOperators: Record<string, Operator> = {
  StringEquals: positive(value => compileLiteral(value)),
  StringNotEquals: negative(value => compileLiteral(value)),
  StringEqualsIgnoreCase: positive(value => compileLiteral(value, true)),
  StringNotEqualsIgnoreCase: negative(value => compileLiteral(value, true)),
  StringLike: positive(value => compileWildcards(value)),
  StringNotLike: negative(value => compileWildcards(value)),
  ArnEquals: positive(compileArn),
  ArnLike: positive(compileArn),
  ArnNotEquals: negative(compileArn),
  ArnNotLike: negative(compileArn)
}
