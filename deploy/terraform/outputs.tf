output "boundary_arn" {
  description = "JOB_ACCESS_BOUNDARY_ARN."
  value       = aws_iam_policy.boundary.arn
}

output "role_arn" {
  description = "For the service account: eks.amazonaws.com/role-arn."
  value       = aws_iam_role.service.arn
}
