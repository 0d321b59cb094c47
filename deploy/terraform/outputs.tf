output "boundary_arn" {
  description = "Value of JOB_ACCESS_BOUNDARY_ARN."
  value       = aws_iam_policy.boundary.arn
}

output "role_arn" {
  description = "Value of the service account's annotation eks.amazonaws.com/role-arn."
  value       = aws_iam_role.service.arn
}
