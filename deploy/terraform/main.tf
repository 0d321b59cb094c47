# What the service needs at AWS before it starts: the permissions boundary of the jobs' users, and its own role.
# Give the service JOB_ACCESS_BOUNDARY_ARN = boundary_arn, and run it with role_arn.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  partition    = data.aws_partition.current.partition
  account_id   = data.aws_caller_identity.current.account_id
  boundary_arn = "arn:${local.partition}:iam::${local.account_id}:policy/${var.name}-boundary"
}

module "policies" {
  source        = "./policies"
  partition     = local.partition
  account_id    = local.account_id
  path          = var.path
  user_prefix   = var.user_prefix
  boundary_arn  = local.boundary_arn
  buckets       = var.buckets
  kms_keys      = var.kms_keys
  session_roles = var.session_roles
}

# Not below var.path: the service may change the policies there, and it must not change its own limits.
resource "aws_iam_policy" "boundary" {
  name        = "${var.name}-boundary"
  path        = "/"
  description = "The most that a user made by ${var.name} can do."
  policy      = module.policies.boundary
  tags        = var.tags
}

resource "aws_iam_policy" "service" {
  name        = "${var.name}-service"
  path        = "/"
  description = "What ${var.name} may do: make, tend and delete users below ${var.path} that carry the boundary."
  policy      = module.policies.service
  tags        = var.tags
}

resource "aws_iam_role" "service" {
  name               = var.name
  path               = "/"
  description        = "${var.name}, the service"
  assume_role_policy = var.oidc_provider_arn == null ? var.trust : data.aws_iam_policy_document.irsa[0].json
  tags               = var.tags

  lifecycle {
    precondition {
      condition     = (var.oidc_provider_arn == null) != (var.trust == null)
      error_message = "Give oidc_provider_arn, for a service account of EKS, or trust."
    }
  }
}

resource "aws_iam_role_policy_attachment" "service" {
  role       = aws_iam_role.service.name
  policy_arn = aws_iam_policy.service.arn
}

data "aws_iam_policy_document" "irsa" {
  count = var.oidc_provider_arn == null ? 0 : 1

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
    # Only this service account: without this condition, every service account of the cluster could assume the role.
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${var.service_account}"]
    }
  }
}

locals {
  issuer = var.oidc_provider_arn == null ? "" : split(":oidc-provider/", var.oidc_provider_arn)[1]
}
