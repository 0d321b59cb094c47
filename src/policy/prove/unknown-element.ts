/**
 * Something in a policy or request that this evaluator does not know or cannot read.
 * It is never guessed at: the prover calls the policy unproven, the check endpoint refuses it.
 */
export class UnknownElement extends Error {
  override name = 'UnknownElement'
}
