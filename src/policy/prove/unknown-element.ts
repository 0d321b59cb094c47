/**
 * Something in a policy, a request or a question that this evaluator does not know or cannot read. It is never guessed
 * at: the prover calls the policy unproven, the check endpoint refuses the question.
 */
export class UnknownElementError extends Error {
  override name = 'UnknownElementError'
  /** The field of a Question that is at fault; undefined when it is the policy or a request. */
  readonly field: string | undefined

  constructor (message: string, field?: string) {
    super(message)
    this.field = field
  }
}
